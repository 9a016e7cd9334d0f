"""fst.training.tasks: what is asked of a network, and by which target it is judged."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fst import nets
from fst.nets.conditional import ConditionalNet
from fst.perceptual import encoders
from fst.perceptual.losses import PerceptualLoss, style_loss, style_target
from fst.perceptual.vgg import VGG19
from fst.training.style_pool import StylePool
from fst.training.tasks import STROKES, AnyStyleTask, DiverseTask, MultiTask, PerStyleTask, StyleTask

LAYERS = {"relu1_1": 1.0, "relu2_1": 1.0}
LOSS = PerceptualLoss(style_layers=LAYERS, content_layers={"relu2_1": 1.0})


@pytest.fixture(scope="module")
def vgg(random_vgg: Callable[..., Path]) -> VGG19:
    return VGG19(taps=LAYERS, weights=random_vgg())


def picture(seed: int, side: int = 48) -> Tensor:
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)


def pictures(seed: int) -> list[list[Tensor]]:
    """Of a style, at every stroke."""
    return [[picture(seed, round(32 * stroke))] for stroke in STROKES]


def made(kind: type[StyleTask], vgg: VGG19, style_pictures: Sequence[Any], **settings: Any) -> Any:
    torch.manual_seed(0)
    net = nets.build({"name": "johnson", "width": 4, "blocks": 1})
    if settings:
        net = ConditionalNet(net=net, **settings)
    optimizer: Any = torch.optim.Adam
    task = kind(
        net=net,
        extractor=vgg,
        loss=LOSS,
        optimizer=optimizer,
        schedule=lambda *_: None,  # type: ignore[arg-type,return-value]
        style_pictures=style_pictures,  # type: ignore[call-arg]
    )
    task.on_fit_start()
    return task


def test_every_photo_is_judged_by_what_was_asked_for_it(vgg: VGG19) -> None:
    """Styles, strokes and strengths of one batch, each against a target worked out for it alone."""
    styles = [pictures(1), pictures(2), pictures(3)]
    task = made(MultiTask, vgg, styles, styles=3, adjustable=True)
    photos = torch.cat([picture(seed) for seed in (11, 12, 13)])
    inputs = {
        "strength": torch.tensor([1.0, 0.25, 0.0]),
        "stroke": torch.tensor([2.0, 2**0.25, 1.0]),
        "styles": torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]),
    }
    terms, restyled = task.score(photos, inputs)

    def grams(image: Tensor) -> dict[str, np.ndarray]:
        found = {}
        for name, value in vgg(image, LAYERS).items():
            f = value[0].detach().double().numpy()
            found[name] = np.einsum("ihw,jhw->ij", f, f) / f.size
        return found

    target = [[grams(p[0]) for p in style] for style in styles]
    losses = []
    for name in LAYERS:
        wanted = [
            target[1][4][name],
            0.25 * (target[0][2][name] + target[0][3][name]) / 2 + 0.75 * grams(photos[1:2])[name],
            grams(photos[2:])[name],
        ]
        own = [grams(each[None])[name] for each in restyled]
        losses.append([((a - b) ** 2).mean() / (b**2).mean() for a, b in zip(own, wanted, strict=True)])
    np.testing.assert_allclose(terms.style.detach().numpy(), np.mean(losses, 0), rtol=1e-3, atol=1e-9)
    assert terms.style[2] < 1e-8, "strength 0: the photo, judged by itself"
    assert terms.content[2] < 1e-8


def test_one_style_alone_is_judged_as_ever(vgg: VGG19) -> None:
    """Averaged over sizes, at full strength: what style_target and style_loss make of it."""
    sizes = [picture(1, 32), picture(1, 64)]
    task = made(PerStyleTask, vgg, [[sizes]])
    photos = torch.cat([picture(11), picture(12)])
    assert task.draw(2, 48) == {}
    terms, restyled = task.score(photos, {})
    target = style_target(sizes, [vgg(p, LAYERS) for p in sizes], LAYERS)
    torch.testing.assert_close(terms.style, style_loss(vgg(restyled, LAYERS), target.grams, LAYERS))
    assert [look.inputs for look in task.looks()] == [{}]


def test_what_is_drawn_for_photos(vgg: VGG19) -> None:
    """Three in four at full strength and at the usual stroke, every style as often as the others."""
    task = made(MultiTask, vgg, [pictures(1), pictures(2)], styles=2, adjustable=True)
    torch.manual_seed(0)
    drawn = task.draw(1000, 48)
    strength, stroke, styles = (drawn[name] for name in ("strength", "stroke", "styles"))
    assert (strength == 1).float().mean() == pytest.approx(0.75, abs=0.06)
    assert (stroke == 1).float().mean() == pytest.approx(0.75, abs=0.06)
    assert 0 <= strength.min() < 0.05
    assert strength.max() == 1
    assert 0.5 <= stroke.min() < 0.55
    assert 1.9 < stroke.max() <= 2
    assert styles.sum(0).tolist() == [500, 500]
    assert styles.sum(1).unique().tolist() == [1]
    torch.manual_seed(0)
    assert all(torch.equal(value, drawn[name]) for name, value in task.draw(1000, 48).items())
    rows = [look.inputs for look in task.looks() if look.scored]
    assert [row["styles"].tolist() for row in rows] == [[[1, 0]], [[0, 1]]]
    assert [sorted(look.inputs) for look in task.looks()[2:]] == [
        ["strength", "styles"],
        ["stroke", "styles"],
        ["stroke", "styles"],
    ]


def test_a_style_that_is_added_is_the_only_one_asked_for(vgg: VGG19) -> None:
    """Its pictures are the only ones there; the network has two styles before it."""
    task = made(MultiTask, vgg, [[[picture(3)]]], styles=3)
    assert task.draw(5, 48)["styles"].tolist() == [[0, 0, 1]] * 5
    photos = picture(11)
    (look,) = task.looks()
    terms, restyled = task.score(photos, look.inputs)
    target = style_target([picture(3)], [vgg(picture(3), LAYERS)], LAYERS)
    torch.testing.assert_close(terms.style, style_loss(vgg(restyled, LAYERS), target.grams, LAYERS))


def test_any_style_is_judged_by_each_photos_own_style_picture(vgg: VGG19, tmp_path: Path) -> None:
    """Two photos, two styles, two strengths, each against a target worked out for it alone."""
    for number in range(2):
        side = np.asarray(picture(number + 1)[0].permute(1, 2, 0) * 255).astype(np.uint8)
        Image.fromarray(side).save(tmp_path / f"{number}.png")
    torch.manual_seed(0)
    net = nets.build(
        {"name": "adain", "width": 4, "blocks": 0, "encoder": {"name": "lite", "tap": "relu3_1"}},
        encoder=lambda _: encoders.pretrained("lite"),
    )
    pool = StylePool([str(tmp_path / f"{number}.png") for number in range(2)])
    optimizer: Any = torch.optim.Adam
    task = AnyStyleTask(net=net, extractor=vgg, loss=LOSS, optimizer=optimizer, schedule=None, pool=pool)  # type: ignore[arg-type]
    task.eval()  # in training, the grain is another every time
    photos, styles = (torch.cat([picture(seed) for seed in seeds]) for seeds in ((11, 12), (1, 2)))
    strength = torch.tensor([1.0, 0.25])
    terms, restyled = task.score(photos, {"style_picture": styles, "strength": strength})
    with torch.no_grad():
        torch.testing.assert_close(restyled, net(photos, net.encode(styles), strength))

    def grams(image: Tensor) -> dict[str, np.ndarray]:
        found = {}
        for name, value in vgg(image, LAYERS).items():
            f = value[0].detach().double().numpy()
            found[name] = np.einsum("ihw,jhw->ij", f, f) / f.size
        return found

    losses = []
    for name in LAYERS:
        wanted = [
            grams(styles[:1])[name],
            0.25 * grams(styles[1:])[name] + 0.75 * grams(photos[1:])[name],
        ]
        own = [grams(each[None])[name] for each in restyled]
        losses.append([((a - b) ** 2).mean() / (b**2).mean() for a, b in zip(own, wanted, strict=True)])
    np.testing.assert_allclose(terms.style.detach().numpy(), np.mean(losses, 0), rtol=1e-3)

    drawn = task.draw(300, 16)
    assert drawn["style_picture"].shape == (300, 3, 16, 16)
    assert (drawn["strength"] == 1).float().mean() == pytest.approx(0.5, abs=0.1)
    looks = task.looks()
    assert [look.scored for look in looks] == [True, True, False]
    torch.testing.assert_close(looks[1].inputs["style_picture"], pool.whole(1, 256))
    assert "rotation" not in drawn


def test_features_are_turned_where_the_network_takes_rotations(vgg: VGG19, tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), (200, 90, 10)).save(tmp_path / "0.png")
    torch.manual_seed(0)
    recipe = {
        "name": "adain",
        "transfer": "wct",
        "width": 4,
        "blocks": 0,
        "encoder": {"name": "lite", "tap": "relu3_1"},
    }
    net = nets.build(recipe, encoder=encoders.build)
    optimizer: Any = torch.optim.Adam
    pool = StylePool([str(tmp_path / "0.png")])
    task = AnyStyleTask(net=net, extractor=vgg, loss=LOSS, optimizer=optimizer, schedule=None, pool=pool)  # type: ignore[arg-type]
    turned = task.draw(24, 32)["rotation"].view(24, 256, 256)
    as_they_are = (turned == 0).flatten(1).all(1)
    assert 1 <= as_they_are.sum() <= 12
    whole = turned[~as_they_are] + torch.eye(256)
    torch.testing.assert_close(whole @ whole.mT, torch.eye(256).expand_as(whole), rtol=0, atol=1e-4)


@pytest.mark.parametrize("adjustable", [False, True])
def test_photos_are_painted_twice_and_driven_apart(vgg: VGG19, adjustable: bool) -> None:
    """The terms of both pictures, each worked out alone, and what they lack of the difference that is wanted."""
    strokes = pictures(1) if adjustable else [[picture(1)]]
    task = made(DiverseTask, vgg, [strokes], adjustable=adjustable, noise=16)
    task.diversity_weight = 0.3
    photos = torch.cat([picture(11), picture(12)])
    torch.manual_seed(1)
    drawn = task.draw(2, 48)
    assert drawn["noise"].shape == (4, 16)
    assert len(drawn["noise"].unique(dim=0)) == 4
    torch.manual_seed(1)
    judged = task.judge(photos)
    wanted, painted = [], []
    for number in range(4):
        given = {name: value[number : number + 1] for name, value in drawn.items()}
        terms, restyled = task.score(photos[number % 2][None], given)
        wanted.append([term.item() for term in terms])
        painted.append(restyled[0].detach().double().numpy())
    strength = drawn.get("strength", torch.ones(4)).double().numpy()
    assert np.array_equal(strength[:2], strength[2:])
    lacking = []
    for one in range(2):
        most = 0.15 * strength[one]
        lacking.append(max(0, most - np.abs(painted[one] - painted[one + 2]).mean()) / most)
    content, style, tv, total = np.mean(wanted, 0)
    diversity = np.mean(np.square(lacking))
    assert diversity > 0.01
    got = {name: value.item() for name, value in judged.items()}
    expected = {"content": content, "style": style, "tv": tv, "diversity": diversity, "total": total + 0.3 * diversity}
    assert got == pytest.approx(expected, rel=1e-3)


def test_diverse_photos_are_watched_with_no_noise_and_with_some(vgg: VGG19) -> None:
    task = made(DiverseTask, vgg, [[[picture(1)]]], noise=16)
    looks = task.looks()
    assert [sorted(look.inputs) for look in looks] == [[], ["noise"], ["noise"], ["noise"]]
    assert all(look.scored for look in looks)
    assert all(
        torch.equal(a.inputs["noise"], b.inputs["noise"]) for a, b in zip(looks[1:], task.looks()[1:], strict=True)
    )


def test_frozen_weights_are_not_given_to_the_optimizer(vgg: VGG19) -> None:
    task = made(MultiTask, vgg, [[[picture(3)]]], styles=2)
    task.net.requires_grad_(False)
    added = task.net.add_style()
    given: list[nn.Parameter] = []
    task.make_optimizer = lambda weights: given.extend(weights)
    task.trainer = type("Trainer", (), {"max_steps": 1})()
    task.make_schedule = lambda optimizer, max_steps: None
    task.configure_optimizers()
    assert [id(each) for each in given] == [id(added)]

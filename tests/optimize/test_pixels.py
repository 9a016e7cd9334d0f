"""fst.optimize.pixels: the loss that is minimised, the scales, what is handed out on the way."""

import dataclasses
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fst import images
from fst.errors import FstError, UsageError
from fst.optimize.pixels import Iterate, optimize, scales, seen_size
from fst.perceptual.losses import PerceptualLoss, style_target
from fst.perceptual.vgg import VGG19

STYLE_LAYERS = {"relu1_1": 1.0, "relu2_1": 1.0}
THREE_SCALES: Any = {"iterations": 20, "start_size": 24}
LOSS = PerceptualLoss(style_layers=STYLE_LAYERS, content_layers={"relu1_2": 1.0})


@pytest.fixture(scope="module")
def vgg(random_vgg: Callable[..., Path]) -> VGG19:
    return VGG19(taps=["relu2_1"], weights=random_vgg(3))


def drawn(photo: Callable[..., Any], seed: int, width: int, height: int) -> Tensor:
    return torch.from_numpy(images.to_float(np.asarray(photo(seed, width, height))))


@pytest.fixture
def content(photo: Callable[..., Any]) -> Tensor:
    return drawn(photo, 0, 48, 32)


@pytest.fixture
def style(photo: Callable[..., Any]) -> Tensor:
    return drawn(photo, 1, 40, 40)


def run(content: Tensor, style: Tensor, vgg: VGG19, **options: Any) -> list[Iterate]:
    return list(optimize(content, [style], vgg, LOSS, **({"iterations": 12, "start_size": 100} | options)))


def exact(picture: Tensor, content: Tensor, style: Tensor, vgg: VGG19) -> dict[str, float]:
    """The loss of a picture, put together here."""
    target = style_target([style], [vgg(style, STYLE_LAYERS)], STYLE_LAYERS)
    terms = LOSS(picture, vgg(picture, ("relu1_1", "relu2_1", "relu1_2")), vgg(content, ("relu1_2",)), target)
    return {name: float(term) for name, term in terms._asdict().items()}


def test_the_first_iterate_is_the_photo_and_terms_are_of_the_picture(
    content: Tensor, style: Tensor, vgg: VGG19
) -> None:
    seen = []
    for iterate in optimize(content, [style], vgg, LOSS, iterations=12, start_size=100):
        assert iterate.terms == pytest.approx(exact(iterate.picture(), content, style, vgg), rel=1e-4, abs=1e-7)
        seen.append(iterate)
    assert seen[0].terms["content"] < 1e-10
    assert torch.equal(seen[0].picture(), content)
    assert [each.step for each in seen] == list(range(1, 13))
    assert seen[-1].terms["total"] < 0.5 * seen[0].terms["total"]


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_the_result_is_the_best_so_far(content: Tensor, style: Tensor, vgg: VGG19, optimizer: Any) -> None:
    totals = []
    for iterate in optimize(content, [style], vgg, LOSS, iterations=12, start_size=100, optimizer=optimizer):
        totals.append(iterate.terms["total"])
        assert iterate.least["total"] == min(totals)
        result = iterate.result()
        assert exact(result, content, style, vgg)["total"] == pytest.approx(min(totals), rel=1e-4)
        assert result.min() >= 0
        assert result.max() <= 1
    assert totals[-1] < 0.6 * totals[0]


def test_lbfgs_is_below_plain_adam_after_as_many_iterations(content: Tensor, style: Tensor, vgg: VGG19) -> None:
    """Plain: lr 0.03, clamped, one size, torch's own."""
    pixels = content.clone().requires_grad_()
    adam = torch.optim.Adam([pixels], lr=0.03)
    target = style_target([style], [vgg(style, STYLE_LAYERS)], STYLE_LAYERS)
    wanted = vgg(content, ("relu1_2",))
    for _ in range(40):
        adam.zero_grad()
        LOSS(pixels, vgg(pixels, ("relu1_1", "relu2_1", "relu1_2")), wanted, target).total.sum().backward()
        adam.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
    ours = run(content, style, vgg, iterations=40)[-1].least["total"]
    assert ours < exact(pixels.detach(), content, style, vgg)["total"]


def test_the_average_is_without_the_bias_of_its_beginning(content: Tensor, style: Tensor, vgg: VGG19) -> None:
    decay, pictures = 0.8, []
    for iterate in optimize(content, [style], vgg, LOSS, iterations=6, start_size=100, average=decay):
        pictures.append(iterate.picture().double().numpy())
        weights = [decay ** (len(pictures) - 1 - i) for i in range(len(pictures))]
        expected = np.average(np.stack(pictures), axis=0, weights=weights)
        np.testing.assert_allclose(iterate.result().numpy(), expected, atol=1e-6)


def test_scales_are_sqrt_2_apart_and_end_at_full_size() -> None:
    assert scales((341, 512), 128) == [(85, 128), (121, 181), (170, 256), (241, 362), (341, 512)]
    assert scales((341, 512), 513) == [(341, 512)]
    assert scales((20, 400), 64) == [(20, 400)]  # 14 pixels would be too few
    assert scales((100, 100), 100) == [(100, 100)]


def test_styles_are_reduced_and_never_enlarged() -> None:
    assert seen_size((640, 1024), 256) == (160, 256)
    assert seen_size((640, 1024), 2000) == (640, 1024)
    assert seen_size((100, 1000), 64) == (16, 160)


def test_each_scale_begins_with_the_result_of_the_last(content: Tensor, style: Tensor, vgg: VGG19) -> None:
    seen = [(each, each.picture(), each.result()) for each in optimize(content, [style], vgg, LOSS, **THREE_SCALES)]
    assert [each.scale for each, _, _ in seen] == [1] * 3 + [2] * 3 + [3] * 14
    for (last, _, result), (each, picture, _) in itertools.pairwise(seen):
        if each.scale != last.scale:
            assert each.size == {2: (23, 34), 3: (32, 48)}[each.scale]
            begun = F.interpolate(result, each.size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
            torch.testing.assert_close(picture, begun)
    assert (seen[-1][0].step, seen[-1][0].steps, seen[-1][0].scales) == (20, 20, 3)
    assert seen[-1][2].shape == content.shape


def test_fewer_iterations_than_scales_still_reach_full_size(content: Tensor, style: Tensor, vgg: VGG19) -> None:
    for iterations in (1, 2, 3):
        iterates = run(content, style, vgg, iterations=iterations, start_size=24)
        assert len(iterates) == iterations
        assert iterates[-1].size == (32, 48)


def test_starts(content: Tensor, style: Tensor, vgg: VGG19) -> None:
    def first(**options: Any) -> Tensor:
        return next(optimize(content, [style], vgg, LOSS, start_size=100, **options)).picture()

    noise = first(init="noise", seed=3)
    assert torch.equal(noise, first(init="noise", seed=3))
    assert not torch.equal(noise, first(init="noise", seed=4))
    assert float(noise.std()) == pytest.approx(12**-0.5, rel=0.05)
    given = F.interpolate(style, (32, 48), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    torch.testing.assert_close(first(init=style), given)


def test_styles_are_mixed_by_their_shares(content: Tensor, style: Tensor, vgg: VGG19, photo: Any) -> None:
    """All of one is that one alone; of two halves of one picture, it is the picture."""
    other = drawn(photo, 5, 40, 40)

    def totals(styles: list[Tensor], weights: list[float] | None) -> list[float]:
        found = optimize(content, styles, vgg, LOSS, iterations=3, start_size=100, style_weights=weights)
        return [iterate.terms["total"] for iterate in found]

    assert totals([style, other], [2, 0]) == pytest.approx(totals([style], None), rel=1e-5)
    assert totals([style, other], [1, 1]) == pytest.approx(totals([style, other], None), rel=1e-5)
    mixed, alone = totals([style, other], [1, 3]), totals([other], None)
    assert mixed[0] != pytest.approx(alone[0], rel=1e-3)


def test_a_time_budget_is_shared_and_reaches_full_size(
    content: Tensor, style: Tensor, vgg: VGG19, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that advances by a second for each look: one when it begins, one an iteration."""
    clock = itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    iterates = run(content, style, vgg, iterations=400, start_size=24, max_seconds=40.0)
    seconds = {scale: max(i.seconds for i in iterates if i.scale == scale) for scale in (1, 2, 3)}
    shares = np.cumsum([67 * 16 * 24, 67 * 23 * 34, 266 * 32 * 48])
    assert list(seconds.values()) == [math.ceil(40 * share / shares[-1]) for share in shares]
    assert iterates[-1].size == (32, 48)
    assert [iterate.step for iterate in iterates] == list(range(1, len(iterates) + 1))


def test_no_time_at_all_gives_one_iteration_a_scale(content: Tensor, style: Tensor, vgg: VGG19) -> None:
    assert [i.size for i in run(content, style, vgg, start_size=24, max_seconds=0.0)] == [(16, 24), (23, 34), (32, 48)]


def test_bfloat16_goes_the_same_way(content: Tensor, style: Tensor, vgg: VGG19) -> None:
    exactly, roughly = (run(content, style, vgg, bfloat16=b, iterations=30)[-1].least["total"] for b in (False, True))
    assert roughly == pytest.approx(exactly, rel=0.1)


def test_iterates_are_frozen_and_their_pictures_copies(content: Tensor, style: Tensor, vgg: VGG19) -> None:
    steps = optimize(content, [style], vgg, LOSS, iterations=3, start_size=100)
    iterate = next(steps)
    iterate.picture().zero_()
    assert torch.equal(iterate.picture(), content)
    with pytest.raises(dataclasses.FrozenInstanceError):
        iterate.step = 5  # type: ignore[misc]


def test_a_loss_that_is_no_number_is_said(content: Tensor, style: Tensor, vgg: VGG19) -> None:
    style = style.clone()
    style[0, 0, 3, 3] = math.nan
    with pytest.raises(FstError, match="the loss is nan at iteration 1"):
        run(content, style, vgg)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"styles": []}, "no style picture was given"),
        ({"styles": [torch.zeros(1, 3, 1, 1)]}, "the style is 1x1 px: 16 at least are needed each way"),
        ({"content": torch.zeros(1, 3, 15, 40)}, "the photo is 40x15 px"),
        ({"content": torch.zeros(2, 3, 40, 40)}, "a photo is (1, 3, height, width), not (2, 3, 40, 40)"),
        ({"style_weights": [1.0, 2.0]}, "2 weights were given for 1 styles"),
        ({"style_weights": [0.0]}, "one is above 0, not [0.0]"),
        ({"style_weights": [-1.0]}, "weights of styles are 0 or more"),
        ({"iterations": 0}, "iterations must be at least 1, not 0"),
        ({"style_scale": 0.0}, "the scale of the style must be above 0"),
        ({"average": 1.0}, "goes from 0 to below 1, not 1.0"),
    ],
)
def test_what_cannot_be(content: Tensor, style: Tensor, vgg: VGG19, options: dict[str, Any], says: str) -> None:
    arguments = {"content": content, "styles": [style]} | options
    with pytest.raises(UsageError) as caught:
        next(optimize(arguments.pop("content"), arguments.pop("styles"), vgg, LOSS, **arguments))
    assert says in str(caught.value)

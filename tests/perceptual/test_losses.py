"""fst.perceptual.losses against float64 numpy lines and numbers worked out by hand."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from fst.errors import UsageError
from fst.perceptual.losses import (
    PerceptualLoss,
    StyleTarget,
    content_loss,
    diversity_loss,
    mix_targets,
    moments_loss,
    roughness,
    stack_targets,
    style_loss,
    style_target,
    total_variation_loss,
    wasserstein_loss,
    weaker_target,
)

SHAPES = {"shallow": (4, 9, 11), "deep": (6, 5, 5)}
Maps = dict[str, torch.Tensor]


def maps(seed: int, batch: int = 2, *, scale: float = 1) -> Maps:
    """Features, not negative, as ReLU leaves them."""
    generator = torch.Generator().manual_seed(seed)
    return {n: scale * torch.randn(batch, *s, generator=generator).clamp(min=0) for n, s in SHAPES.items()}


def grams(features: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    found = {}
    for name, value in features.items():
        f = value.double().numpy()
        found[name] = np.einsum("bihw,bjhw->bij", f, f) / f[0].size
    return found


def tensors(arrays: Mapping[str, np.ndarray]) -> Maps:
    return {name: torch.from_numpy(a).float() for name, a in arrays.items()}


def content64(features: Maps, target: Maps, weights: Mapping[str, float]) -> np.ndarray:
    total = np.zeros(2)
    for name, weight in weights.items():
        a, b = features[name].double().numpy(), target[name].double().numpy()
        for photo in range(2):
            total[photo] += weight * ((a[photo] - b[photo]) ** 2).mean() / (b[photo] ** 2).mean()
    return total / sum(weights.values())


def test_diversity_against_float64() -> None:
    """The same picture, less than is wanted, more, and nothing wanted."""
    pictures = torch.rand(4, 3, 6, 7, generator=torch.Generator().manual_seed(0))
    others = pictures + torch.tensor([0.0, 0.03, -0.5, 0.01]).view(4, 1, 1, 1)
    wanted = torch.tensor([0.15, 0.15, 0.15, 0.0], requires_grad=False)
    a, b, w = (each.double().numpy() for each in (pictures, others, wanted))
    lacking = np.maximum(w - np.abs(a - b).mean((1, 2, 3)), 0)
    expected = [(lacking[n] / w[n]) ** 2 if w[n] else 0.0 for n in range(4)]
    np.testing.assert_allclose(expected, [1, 0.64, 0, 0], atol=1e-5)
    np.testing.assert_allclose(diversity_loss(pictures, others, wanted).numpy(), expected, rtol=1e-4, atol=1e-7)


def test_diversity_has_a_slope_where_nothing_is_wanted() -> None:
    """At strength 0 both pictures are the photo."""
    picture = torch.rand(1, 3, 4, 4, requires_grad=True)
    diversity_loss(picture, picture.detach().clone(), torch.zeros(1)).sum().backward()
    assert picture.grad is not None
    assert not picture.grad.any()


def test_content_against_float64() -> None:
    for weights in ({"deep": 1.0}, {"shallow": 1.0, "deep": 3.0}, {"shallow": 10.0, "deep": 30.0}):
        got = content_loss(maps(0), maps(1), weights)
        np.testing.assert_allclose(got.numpy(), content64(maps(0), maps(1), weights), rtol=1e-5)


def test_style_against_float64() -> None:
    features, target, weights = maps(0), grams(maps(1, 1)), {"shallow": 2.0, "deep": 1.0}
    expected = np.zeros(2)
    for name, gram in grams(features).items():
        expected += weights[name] / 3 * ((gram - target[name]) ** 2).mean((1, 2)) / (target[name] ** 2).mean()
    np.testing.assert_allclose(style_loss(features, tensors(target), weights).numpy(), expected, rtol=1e-5)


def flat64(features: torch.Tensor) -> np.ndarray:
    """The values of each channel of one feature map: (1, C, H, W) -> (C, H W)."""
    return np.asarray(features[0].double().flatten(1).numpy())


def wide(seed: int, channels: int, side: int) -> Maps:
    """Correlated features of one layer, whose covariances have eigenvalues from 1 to about 1e-8."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(channels, side * side, generator=generator) * torch.logspace(0, -4, channels)[:, None]
    mixing = torch.linalg.qr(torch.randn(channels, channels, generator=torch.Generator().manual_seed(9)))[0]
    return {"deep": (mixing @ noise + 0.3 * torch.rand(channels, 1, generator=generator)).view(1, channels, side, side)}


def target_of(features: Maps) -> StyleTarget:
    return style_target([torch.zeros(1, 3, 8, 8)], [features], dict.fromkeys(features, 1))


def root64(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray(vectors * np.sqrt(values.clip(0)) @ vectors.T)


def wasserstein64(features: torch.Tensor, style: torch.Tensor) -> float:
    f, s = flat64(features), flat64(style)
    cov_f, cov_s = np.cov(f, ddof=0), np.cov(s, ddof=0)
    between = root64(root64(cov_s) @ cov_f @ root64(cov_s))
    distance = ((f.mean(1) - s.mean(1)) ** 2).sum() + np.trace(cov_f + cov_s - 2 * between)
    return float(distance / ((s.mean(1) ** 2).sum() + np.trace(cov_s)))


def test_moments_against_float64() -> None:
    features, style, weights = maps(0), maps(1, 1), {"shallow": 2.0, "deep": 1.0}
    expected = np.zeros(2)
    for name, weight in weights.items():
        s = flat64(style[name])
        for photo in range(2):
            f = flat64(features[name][photo : photo + 1])
            wrong = ((f.mean(1) - s.mean(1)) ** 2).sum() + ((f.std(1) - s.std(1)) ** 2).sum()
            expected[photo] += weight / 3 * wrong / ((s.mean(1) ** 2).sum() + (s.std(1) ** 2).sum())
    np.testing.assert_allclose(moments_loss(features, target_of(style), weights).numpy(), expected, rtol=1e-4)


def test_wasserstein_against_float64() -> None:
    features, style = maps(0), maps(1, 1)
    for name in SHAPES:
        expected = [wasserstein64(features[name][i : i + 1], style[name]) for i in range(2)]
        got = wasserstein_loss(features, target_of(style), {name: 1})
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize(("side", "within"), [(24, 1e-4), (4, 5e-3)], ids=["many pixels", "fewer pixels than channels"])
def test_wasserstein_of_badly_conditioned_features(side: int, within: float) -> None:
    """Eigenvalues of 1e-16 of the largest in the product, or 0; gradients stay finite."""
    features, style = wide(0, 32, side), wide(1, 32, side)
    expected = wasserstein64(features["deep"], style["deep"])
    leaf = features["deep"].clone().requires_grad_()
    got = wasserstein_loss({"deep": leaf}, target_of(style), {"deep": 1})
    assert got.item() == pytest.approx(expected, rel=within)
    got.sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()
    downhill = {"deep": features["deep"] - 1e-3 * leaf.grad / leaf.grad.square().mean().sqrt()}
    assert wasserstein64(downhill["deep"], style["deep"]) < expected


def test_wasserstein_gradient_against_differences_in_float64() -> None:
    features, style = maps(0, 1), maps(1, 1)
    leaf = features["deep"].clone().requires_grad_()
    wasserstein_loss({"deep": leaf}, target_of(style), {"deep": 1}).sum().backward()
    assert leaf.grad is not None
    direction = torch.randn(leaf.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    ahead, behind = (wasserstein64(features["deep"].double() + h * direction, style["deep"]) for h in (1e-4, -1e-4))
    assert float((leaf.grad.double() * direction).sum()) == pytest.approx((ahead - behind) / 2e-4, rel=1e-3)


def test_every_style_distance_is_0_at_the_style_and_1_at_nothing() -> None:
    nothing, even = {name: torch.zeros_like(value) for name, value in maps(0, 1).items()}, dict.fromkeys(SHAPES, 1.0)
    for distance in (moments_loss, wasserstein_loss):
        target = target_of(maps(1, 1))
        assert distance(nothing, target, even).item() == pytest.approx(1, abs=2e-3)
        assert distance(maps(1, 1), target, even).item() < 1e-5
        dead = {name: value.clone().requires_grad_() for name, value in nothing.items()}
        distance(dead, target, even).sum().backward()
        assert all(value.grad is not None and value.grad.isfinite().all() for value in dead.values())


def test_the_style_term_is_made_of_the_distances_asked_for() -> None:
    pictures, features, photo, target = scene()
    even = dict.fromkeys(SHAPES, 1)
    terms = make(style_distances={"gram": 1, "wasserstein": 3})(pictures, features, photo, target)
    expected = (style_loss(features, target.grams, even) + 3 * wasserstein_loss(features, target, even)) / 4
    torch.testing.assert_close(terms.style, expected)
    alone = make(style_distances={"moments": 5, "gram": 0})(pictures, features, photo, target)
    torch.testing.assert_close(alone.style, moments_loss(features, target, even))


def test_mixed_targets_are_those_of_pictures_side_by_side() -> None:
    """Of one a quarter, of the other three: as one map of which they cover so much."""
    one, other = maps(1, 1), maps(2, 1)
    mixed = mix_targets(stack_targets([target_of(one), target_of(other)]), torch.tensor([[0.25, 0.75]]))
    together = {name: torch.cat([one[name], other[name], other[name], other[name]], 3) for name in SHAPES}
    expected = target_of(together)
    for name in SHAPES:
        torch.testing.assert_close(mixed.grams[name], expected.grams[name])
        torch.testing.assert_close(mixed.means[name], expected.means[name])


def test_one_is_as_wrong_as_nothing_at_all() -> None:
    nothing = {name: torch.zeros_like(value) for name, value in maps(0).items()}
    even = dict.fromkeys(SHAPES, 1.0)
    torch.testing.assert_close(content_loss(nothing, maps(1), even), torch.ones(2))
    torch.testing.assert_close(style_loss(nothing, tensors(grams(maps(1, 1))), even), torch.ones(2))
    torch.testing.assert_close(content_loss(maps(1), maps(1), even), torch.zeros(2))
    assert style_loss(maps(1), tensors(grams(maps(1))), even).max() < 1e-10


def test_the_scale_of_an_extractor_does_not_matter() -> None:
    even = dict.fromkeys(SHAPES, 1.0)
    large, target = maps(0, scale=50), maps(1, scale=50)
    torch.testing.assert_close(content_loss(large, target, even), content_loss(maps(0), maps(1), even))
    torch.testing.assert_close(
        style_loss(large, tensors(grams(target)), even), style_loss(maps(0), tensors(grams(maps(1))), even)
    )


def test_only_the_layers_asked_for_count() -> None:
    changed = maps(0) | {"shallow": maps(5)["shallow"]}
    assert torch.equal(content_loss(maps(0), maps(1), {"deep": 1}), content_loss(changed, maps(1), {"deep": 1}))
    with_none = content_loss(maps(0), maps(1), {"deep": 1, "shallow": 0})
    assert torch.equal(content_loss(maps(0), maps(1), {"deep": 1}), with_none)


def test_roughness_by_hand() -> None:
    """Vertical steps 1, 0; horizontal steps 2, 1: means of squares 1/2 and 5/2."""
    picture = torch.tensor([[0.0, 2.0], [1.0, 2.0]]).expand(1, 3, 2, 2)
    torch.testing.assert_close(roughness(picture), torch.tensor([3.0]))
    torch.testing.assert_close(roughness(torch.full((2, 3, 5, 7), 0.4)), torch.zeros(2))


def test_roughness_against_float64() -> None:
    pictures = torch.rand(2, 3, 13, 17, generator=torch.Generator().manual_seed(0))
    p = pictures.double().numpy()
    expected = (np.diff(p, axis=2) ** 2).mean((1, 2, 3)) + (np.diff(p, axis=3) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(roughness(pictures).numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(total_variation_loss(pictures, torch.tensor([0.05])).numpy(), expected / 0.05, rtol=1e-5)
    torch.testing.assert_close(total_variation_loss(pictures, roughness(pictures)), torch.ones(2))


def scene(batch: int = 2) -> tuple[torch.Tensor, Maps, Maps, StyleTarget]:
    generator = torch.Generator().manual_seed(3)
    pictures = torch.rand(batch, 3, 8, 8, generator=generator)
    target = style_target([torch.rand(1, 3, 8, 8, generator=generator)], [maps(2, 1)], dict.fromkeys(SHAPES, 1))
    return pictures, maps(0, batch), maps(1, batch), target


def make(**changes: Any) -> PerceptualLoss:
    defaults = {"style_layers": {"shallow": 1, "deep": 1}, "content_layers": {"deep": 1}}
    return PerceptualLoss(**(defaults | changes))


def test_the_total_is_the_weighted_sum_of_unweighted_terms() -> None:
    pictures, features, photo, target = scene()
    terms = make(content_weight=0.5, style_weight=3, tv_weight=0.25)(pictures, features, photo, target)
    torch.testing.assert_close(terms.content, content_loss(features, photo, {"deep": 1}))
    torch.testing.assert_close(terms.style, style_loss(features, target.grams, dict.fromkeys(SHAPES, 1)))
    torch.testing.assert_close(terms.tv, total_variation_loss(pictures, target.roughness))
    torch.testing.assert_close(terms.total, 0.5 * terms.content + 3 * terms.style + 0.25 * terms.tv)
    assert all(term.shape == (2,) for term in terms)
    torch.testing.assert_close(terms.mean().total, terms.total.sum() / 2)


def test_a_batch_is_its_photos_one_by_one() -> None:
    pictures, features, photo, target = scene()
    together = make(tv_weight=1)(pictures, features, photo, target)
    for i in range(2):
        one = slice(i, i + 1)
        alone = make(tv_weight=1)(
            pictures[one], {n: v[one] for n, v in features.items()}, {n: v[one] for n, v in photo.items()}, target
        )
        for term, single in zip(together, alone, strict=True):
            torch.testing.assert_close(term[one], single)


def test_several_scales_are_averaged() -> None:
    """The gradient towards the mean of the targets is the mean of the gradients, for equal divisors."""
    generator, weights = torch.Generator().manual_seed(4), dict.fromkeys(SHAPES, 1)
    small, large = (torch.rand(1, 3, side, side, generator=generator) for side in (8, 16))
    target = style_target([small, large], [maps(2, 1), maps(3, 1)], weights)
    expected = {name: (grams(maps(2, 1))[name] + grams(maps(3, 1))[name]) / 2 for name in SHAPES}
    for name, gram in target.grams.items():
        assert gram.shape == (1, SHAPES[name][0], SHAPES[name][0])
        np.testing.assert_allclose(gram.numpy(), expected[name], rtol=1e-5)
    torch.testing.assert_close(target.roughness, (roughness(small) + roughness(large)) / 2)


def test_gradients_pull_towards_photo_and_style() -> None:
    pictures, features, photo, target = scene()
    loss = make()
    leaves = {name: value.clone().requires_grad_() for name, value in features.items()}
    before = loss(pictures, leaves, photo, target).total.sum()
    before.backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        moved = {name: value - 0.05 * value.grad for name, value in leaves.items() if value.grad is not None}
        assert len(moved) == 2
        assert loss(pictures, moved, photo, target).total.sum() < before


def test_a_black_photo_and_a_flat_style_stay_finite() -> None:
    pictures, features, _, _ = scene()
    black = {name: torch.zeros_like(value) for name, value in features.items()}
    flat = style_target([torch.zeros(1, 3, 8, 8)], [{n: v[:1] for n, v in black.items()}], dict.fromkeys(SHAPES, 1))
    pictures.requires_grad_()
    terms = make(tv_weight=0)(pictures, features, black, flat)
    assert all(term.isfinite().all() for term in terms)
    terms.total.sum().backward()  # type: ignore[no-untyped-call]
    assert pictures.grad is not None
    assert pictures.grad.isfinite().all()
    assert make()(pictures, black, black, flat).style.abs().max() == 0


def test_terms_are_float32_under_autocast() -> None:
    pictures, features, photo, target = scene()
    exact = make(tv_weight=1)(pictures, features, photo, target)
    with torch.autocast("cpu", torch.bfloat16):
        got = make(tv_weight=1)(pictures, features, photo, target)
    for term, value in zip(got, exact, strict=True):
        assert term.dtype == torch.float32
        torch.testing.assert_close(term, value, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"style_layers": {}}, "loss.style_layers needs one of weight above 0"),
        ({"content_layers": {}}, "loss.content_layers"),
        ({"style_layers": {"deep": 0}}, "loss.style_layers"),
        ({"style_layers": {"deep": 2, "shallow": -1}}, "and none below, not {'deep': 2, 'shallow': -1}"),
        ({"style_layers": {"deep": float("nan")}}, "loss.style_layers"),
        ({"content_weight": -0.1}, "loss.content_weight must be a number of 0 or more, not -0.1"),
        ({"style_weight": float("inf")}, "loss.style_weight"),
        ({"style_weight": "much"}, "loss.style_weight must be a number of 0 or more, not 'much'"),
        ({"tv_weight": float("nan")}, "loss.tv_weight"),
        ({"style_distances": {"grams": 1}}, "loss.style_distances has no 'grams': did you mean gram?"),
        ({"style_distances": {"gram": 0}}, "loss.style_distances needs one of weight above 0"),
    ],
)
def test_weights_that_cannot_be(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        make(**changes)
    assert says in str(caught.value)


def test_targets_are_mixed_by_their_shares() -> None:
    """Also where everything else is bfloat16."""
    found = [grams(maps(seed, 1)) for seed in range(3)]
    stacked = tensors({name: np.concatenate([each[name] for each in found]) for name in SHAPES})
    means = {name: torch.arange(3.0)[:, None].expand(3, SHAPES[name][0]) for name in SHAPES}
    targets = StyleTarget(stacked, torch.tensor([0.1, 0.2, 0.7]), means)
    shares = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]])
    with torch.autocast("cpu", torch.bfloat16):
        mixed = mix_targets(targets, shares)
    for name in SHAPES:
        wanted = np.stack([0.25 * found[0][name][0] + 0.75 * found[1][name][0], found[2][name][0]])
        np.testing.assert_allclose(mixed.grams[name].numpy(), wanted, rtol=1e-5)
        np.testing.assert_allclose(mixed.means[name].numpy(), [[0.75] * SHAPES[name][0], [2.0] * SHAPES[name][0]])
    np.testing.assert_allclose(mixed.roughness.numpy(), [0.25 * 0.1 + 0.75 * 0.2, 0.7], rtol=1e-6)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_weaker_target_lies_between_the_photos_and_the_styles(rows: int) -> None:
    photos, style = maps(0), grams(maps(1, rows))
    styles_means = {name: torch.full((rows, SHAPES[name][0]), 5.0) for name in SHAPES}
    target = StyleTarget(tensors(style), torch.ones(rows), styles_means)
    weaker = weaker_target(target, photos, torch.tensor([0.0, 0.3]))
    for name, own in grams(photos).items():
        np.testing.assert_allclose(weaker.grams[name][0].numpy(), own[0], rtol=1e-5, atol=1e-7)
        wanted = 0.7 * own[1] + 0.3 * style[name][rows - 1]
        np.testing.assert_allclose(weaker.grams[name][1].numpy(), wanted, rtol=1e-5, atol=1e-7)
        own_means = photos[name].mean((2, 3)).numpy()
        np.testing.assert_allclose(weaker.means[name].numpy(), [own_means[0], 0.7 * own_means[1] + 1.5], rtol=1e-5)
    assert style_loss(photos, weaker.grams, {"deep": 1.0})[0] < 1e-10

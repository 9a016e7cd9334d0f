"""Scores against scikit-image, float64 numpy lines and numbers worked out by hand."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from fst.errors import UsageError
from fst.evaluation import plain
from fst.evaluation.scores import Judge, default_loss, perceptual_distance, pixel_distance, ssim
from fst.paths import carried
from fst.perceptual.lite import Lite
from fst.perceptual.vgg import VGG19


def pictures(seed: int, count: int, height: int = 40, width: int = 52) -> torch.Tensor:
    """Smooth in part, so that SSIM has something to find."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 5, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return 0.8 * smooth + 0.2 * torch.rand(count, 3, height, width, generator=generator)


def test_ssim_is_that_of_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    a, b = pictures(0, 3), pictures(1, 3)
    b[2] = 0.7 * a[2] + 0.3 * b[2]
    wanted = []
    for x, y in zip(a.double().numpy(), b.double().numpy(), strict=True):
        luma = [0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2] for p in (x, y)]
        wanted.append(
            metrics.structural_similarity(
                *luma, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
            )
        )
    got = ssim(a, b)
    np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-9)
    assert got[2] > 0.5 > got[0]
    np.testing.assert_allclose(ssim(a, a).numpy(), 1, rtol=1e-12)


def test_ssim_of_flat_pictures() -> None:
    """Without variance only the first factor is left."""
    a, b = torch.full((1, 3, 16, 16), 0.25), torch.full((1, 3, 16, 16), 0.75)
    wanted = (2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4)
    assert float(ssim(a, b)) == pytest.approx(wanted, rel=1e-6)


def test_pixel_distance() -> None:
    levels = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1).expand(3, 3, 4, 4)
    assert pixel_distance(levels) == pytest.approx((0.5 + 1 + 0.5) / 3)
    many = pictures(2, 4)
    wanted = np.mean([np.abs(a - b).mean() for a, b in combinations(many.double().numpy(), 2)])
    assert pixel_distance(many) == pytest.approx(wanted, rel=1e-6)


def test_perceptual_distance() -> None:
    left, right = torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3)
    left[:, 0], right[:, 1] = 2, 5
    assert perceptual_distance({"t": torch.cat([left, right])}, ["t"]) == pytest.approx(1)
    assert perceptual_distance({"t": torch.cat([left, left])}, ["t"]) == 0
    assert perceptual_distance({"t": torch.zeros(2, 1, 2, 2)}, ["t"]) == 0
    generator = torch.Generator().manual_seed(0)
    features = {n: torch.randn(3, c, 5, 4, generator=generator).clamp(min=0) for n, c in (("a", 4), ("b", 7))}
    found = []
    for one, two in combinations(range(3), 2):
        for name in "ab":
            x, y = (features[name][n].double().numpy() for n in (one, two))
            found.append(((x - y) ** 2).mean() / ((x**2).mean() + (y**2).mean()))
    assert perceptual_distance(features, ["a", "b"]) == pytest.approx(np.mean(found), rel=1e-5)


def test_it_judges_by_the_default_loss() -> None:
    conf = yaml.safe_load((carried("conf") / "loss" / "default.yaml").read_text())
    loss = default_loss()
    assert list(loss.style_layers) == conf["style_layers"]
    assert list(loss.content_layers) == conf["content_layers"]
    assert (loss.content_weight, loss.style_weight, loss.tv_weight) == (0.1, 1, 0)


def gram64(features: torch.Tensor) -> np.ndarray:
    f = features[0].double().numpy().reshape(features.shape[1], -1)
    return f @ f.T / f.size


def test_scores_against_float64() -> None:
    photo, painted, styles = pictures(0, 1), pictures(1, 2), [pictures(2, 1, 30, 30), pictures(3, 1, 48, 32)]
    judge, lite = Judge("lite"), Lite(taps=["relu3_4"])
    got = judge.score(photo, painted, judge.target(styles, [0.25, 0.75]))

    layers = ["relu1_1", "relu2_1", "relu3_1", "relu3_4"]
    seen, of_photo = [lite(p[None], [*layers, "relu3_2"]) for p in painted], lite(photo, [*layers, "relu3_2"])
    wanted = {n: 0.25 * gram64(lite(styles[0], [n])[n]) + 0.75 * gram64(lite(styles[1], [n])[n]) for n in layers}

    def style(features: dict[str, torch.Tensor]) -> float:
        return np.mean([((gram64(features[n]) - wanted[n]) ** 2).mean() / (wanted[n] ** 2).mean() for n in layers])

    def rough(picture: torch.Tensor) -> float:
        p = picture.double().numpy()
        return (np.diff(p, axis=-1) ** 2).mean() + (np.diff(p, axis=-2) ** 2).mean()

    y = of_photo["relu3_2"].double().numpy()
    content = np.mean([((f["relu3_2"].double().numpy() - y) ** 2).mean() / (y**2).mean() for f in seen])
    tv = np.mean([rough(p) for p in painted]) / (0.25 * rough(styles[0]) + 0.75 * rough(styles[1]))
    losses = {"content": content, "style": np.mean([style(f) for f in seen]), "tv": tv, "photo_style": style(of_photo)}
    losses |= {"total": 0.1 * content + losses["style"], "style_share": losses["style"] / losses["photo_style"]}
    for name, value in losses.items():
        assert got[name] == pytest.approx(value, rel=1e-4), name
    assert got["ssim"] == pytest.approx(float(ssim(painted, torch.cat([photo, photo])).mean()))
    assert got["pixel_distance"] == pytest.approx(float((painted[0] - painted[1]).abs().mean()))
    assert 0 < got["perceptual_distance"] < 1
    alone = judge.score(photo, photo, judge.target(styles[:1], [1.0]))
    assert (alone["content"], alone["style_share"], alone["ssim"]) == (0, pytest.approx(1), pytest.approx(1))
    assert "pixel_distance" not in alone


def test_it_looks_through_vgg19_where_its_weights_are(
    random_vgg: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Judge()
    assert isinstance(found.extractor, Lite)
    assert "stand-in for VGG-19, as VGG-19's weights are not here" in found.says
    assert Judge("lite").described()["weights_sha256"] == found.weights_sha256
    assert Judge("lite").described()["padding"] is None
    monkeypatch.setenv("FST_VGG19_WEIGHTS", str(random_vgg(8)))
    found = Judge()
    assert isinstance(found.extractor, VGG19)
    assert found.says == f"seen by VGG-19 ({random_vgg(8).name})"
    assert isinstance(Judge("lite").extractor, Lite)


def test_zeros_beyond_the_border_score_as_plain_scripts_do(
    random_vgg: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="zeros is for VGG-19, and lite is to look here: take --perceptual vgg19"):
        Judge(padding="zeros")
    monkeypatch.setenv("FST_VGG19_WEIGHTS", str(random_vgg(8)))
    photo, painted, style = pictures(0, 1), pictures(1, 1), pictures(2, 1, 30, 30)
    zeros, usual = Judge(padding="zeros"), Judge()
    assert zeros.says == f"{usual.says}, with zeros beyond the border"
    assert (zeros.described()["padding"], usual.described()["padding"]) == ("zeros", "replicate")
    vgg = plain.Vgg(random_vgg(8))
    with torch.no_grad():
        grams = {name: plain.gram(f) for name, f in vgg(style).items() if name in plain.STYLE_LAYERS}
        wanted = [float(term) for term in plain.losses(vgg(painted), vgg(photo), grams)]
    for judge, agrees in ((zeros, True), (usual, False)):
        found = judge.score(photo, painted, judge.target([style], [1.0]))
        assert (wanted == pytest.approx([found["content"], found["style"]], rel=1e-3)) is agrees

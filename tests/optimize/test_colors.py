"""fst.optimize.colors against float64 numpy."""

import numpy as np
import torch

from fst.optimize.colors import grey, match_colors, match_luminance


def picture(seed: int, height: int = 20, width: int = 30) -> torch.Tensor:
    """Colours well inside [0, 1], correlated and of unlike spread."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.tensor([[0.06, 0.02, 0.0], [0.01, 0.04, 0.02], [0.0, 0.03, 0.05]])
    noise = torch.randn(3, height * width, generator=generator).clamp(-2.5, 2.5)
    return (mixing @ noise + 0.3 + 0.1 * seed).view(1, 3, height, width)


def pixels(of: torch.Tensor) -> np.ndarray:
    return of[0].double().numpy().reshape(3, -1)


def test_matched_style_has_the_photos_mean_and_covariance() -> None:
    style, photo = picture(0).flip(1), picture(3, 25, 17)
    matched = match_colors(style, photo)
    assert matched.shape == style.shape
    np.testing.assert_allclose(pixels(matched).mean(1), pixels(photo).mean(1), atol=1e-5)
    np.testing.assert_allclose(np.cov(pixels(matched)), np.cov(pixels(photo)) * 600 / 425 * 424 / 599, rtol=1e-3)


def test_matching_is_the_product_of_the_two_roots() -> None:
    style, photo = picture(1).flip(1), picture(2)

    def power(matrix: np.ndarray, exponent: float) -> np.ndarray:
        values, vectors = np.linalg.eigh(matrix)
        return np.asarray(vectors @ np.diag(values**exponent) @ vectors.T)

    s, p = pixels(style), pixels(photo)
    expected = power(np.cov(p), 0.5) @ power(np.cov(s), -0.5) @ (s - s.mean(1, keepdims=True)) + p.mean(
        1, keepdims=True
    )
    np.testing.assert_allclose(pixels(match_colors(style, photo)), expected.clip(0, 1), atol=1e-5)


def test_a_style_like_the_photo_stays() -> None:
    torch.testing.assert_close(match_colors(picture(2), picture(2)), picture(2), atol=1e-4, rtol=0)


def test_grey_and_flat_styles_get_no_colour_of_their_own() -> None:
    flat = match_colors(torch.full((1, 3, 8, 8), 0.7), picture(1))
    torch.testing.assert_close(flat, picture(1).mean((2, 3), keepdim=True).expand(1, 3, 8, 8), atol=1e-4, rtol=0)
    light = torch.linspace(0.2, 0.8, 64).view(1, 1, 8, 8).expand(1, 3, 8, 8)
    offsets = pixels(match_colors(light, picture(1))) - pixels(picture(1)).mean(1, keepdims=True)
    assert np.linalg.svd(offsets, compute_uv=False)[1] < 1e-3  # all colours on one line


def test_luminance() -> None:
    style, photo = picture(0), picture(3, 25, 17)
    luma = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(pixels(grey(style)), np.tile(luma @ pixels(style), (3, 1)), atol=1e-6)
    matched = pixels(match_luminance(style, photo))
    light = luma @ pixels(photo)
    for channel in matched:
        np.testing.assert_allclose(channel.mean(), light.mean(), atol=1e-5)
        np.testing.assert_allclose(channel.std(), light.std(), rtol=5e-3)
    assert match_luminance(torch.full((1, 3, 8, 8), 0.7), photo).isfinite().all()

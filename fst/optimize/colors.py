"""Keep the photo's colours (Gatys et al. 2016, "Preserving Color in Neural Artistic Style Transfer")."""

import torch
from torch import Tensor

from fst.feature_stats import symmetric_root

_LUMA = (0.299, 0.587, 0.114)  # of R, G and B, as in YIQ and in fst.images.keep_colors


def match_colors(style: Tensor, photo: Tensor) -> Tensor:
    """The style with mean and covariance of the photo's colours: (1, 3, h, w), (1, 3, H, W) -> (1, 3, h, w) in [0, 1].

    Section 3, with the matrix of Image Analogies, Σ_photo^½ Σ_style^-½; it moves colours less than Cholesky's does.
    Where the style has no colour to spread (a grey or flat picture), none is made up.
    """
    (mean, covariance), (mean_s, covariance_s) = (_colors(picture) for picture in (photo, style))
    matrix = symmetric_root(covariance) @ torch.linalg.pinv(symmetric_root(covariance_s), rtol=1e-4, hermitian=True)
    moved = torch.einsum("ij,bjhw->bihw", matrix, style.double() - mean_s) + mean
    return moved.clamp(0, 1).to(style)


def grey(picture: Tensor) -> Tensor:
    """Luma in all three channels: (1, 3, H, W) -> the same."""
    luma = sum(weight * picture[:, i : i + 1] for i, weight in enumerate(_LUMA))
    assert isinstance(luma, Tensor)
    return luma.expand_as(picture).contiguous()


def match_luminance(style: Tensor, photo: Tensor) -> Tensor:
    """The style's luma with mean and standard deviation of the photo's: -> (1, 3, h, w), grey, in [0, 1]. Section 4."""
    light, light_s = grey(photo), grey(style)
    spread = light.std() / light_s.std().clamp(min=1e-6)
    return ((light_s - light_s.mean()) * spread + light.mean()).clamp(0, 1)


def _colors(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (1, 3, 1, 1) and covariance (3, 3) over the pixels of (1, 3, H, W), float64."""
    pixels = picture[0].double().flatten(1)  # (3, H W)
    return pixels.mean(1).view(1, 3, 1, 1), torch.cov(pixels, correction=0)

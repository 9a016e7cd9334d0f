"""Statistics of feature maps: pure functions, used by networks and perceptual losses alike."""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

_LEAST_VARIANCE = 1e-5
_LEAST_SHARE = 1e-3
_CHUNK = 1 << 20  # values that are float32 at a time: they stay in the processor's cache


def gram(features: Tensor) -> Tensor:
    """Gram matrix of each feature map, divided by its number of values: (B, C, H, W) -> (B, C, C) float32.

    Always summed in float32: in bfloat16 the sum over H W products loses the differences that style is made of.
    Gatys et al. 2016, section 2.2; the division by C H W is Johnson et al. 2016, section 3.2.
    """
    matrices: Tensor = _Gram.apply(features)
    return matrices


def symmetric_root(matrices: Tensor) -> Tensor:
    """The root of symmetric matrices, (..., C, C) -> the same; eigenvalues that rounding made negative count as 0."""
    values, vectors = torch.linalg.eigh(matrices)
    root: Tensor = vectors * values.clamp(min=0).sqrt().unsqueeze(-2) @ vectors.mT
    return root


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel: (B, C, H, W) -> (B, C) each, float32."""
    wide = features.float()
    mean = wide.mean((2, 3))
    variance = (wide - mean[..., None, None]).square().mean((2, 3))
    return mean, (variance + _LEAST_VARIANCE).sqrt()


def adain(features: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Give each channel another mean and standard deviation: (B, C, H, W), (1 or B, C) twice -> (B, C, H, W) float32.

    Adaptive instance normalisation, Huang & Belongie 2017, equation 8.
    """
    own_mean, own_deviation = (each[..., None, None] for each in moments(features))
    return (features.float() - own_mean) / own_deviation * deviation[..., None, None] + mean[..., None, None]


def covariance(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (B, C) and covariance (B, C, C) over places, float32, of features (B, C, H, W)."""
    flat = features.float().flatten(2)
    mean = flat.mean(2)
    centred = flat - mean[..., None]
    return mean, centred @ centred.mT / flat.shape[2]


def root_of_covariance(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (B, C) and symmetric root (B, C, C) of the covariance, float32, of features (B, C, H, W)."""
    with _in_float32(features):
        mean, matrices = covariance(features)
        return mean, roots(matrices)[0]


def whitening_coloring(features: Tensor, mean: Tensor, root: Tensor, turn: Tensor | None = None) -> Tensor:
    """Give features another mean and covariance: (B, C, H, W), (1 or B, C), (1 or B, C, C) -> (B, C, H, W) float32.

    Li et al. 2017, "Universal Style Transfer via Feature Transforms", section 3.2. `root` is the symmetric root of the
    covariance. `turn`, (1 or B, C, C), is an orthogonal matrix less the identity: it makes another picture of the same
    covariance (Wang et al. 2020, "Diversified Arbitrary Style Transfer via Deep Feature Perturbation", section 3.2); H
    and W are even for it.

    Departure from the latter: the whitened features are not turned as they are, but their means over 2x2 places are,
    and then the sum is whitened again. What a region looks like changes as much, and a decoder still meets the fine
    structure that it knows: for the same difference of pictures, two thirds of the loss of style.
    """
    b, c, h, w = features.shape
    with _in_float32(features):
        own_mean, matrices = covariance(features)
        white = roots(matrices)[1]
        flat = features.float().flatten(2) - own_mean[..., None]
        if turn is not None:
            kept = white @ matrices @ white  # the identity, but in directions that the features hardly have
            whitened = (white @ flat).view(b, c, h, w)
            coarse = turn @ nn.functional.avg_pool2d(whitened, 2).flatten(2)
            coarse = nn.functional.interpolate(coarse.view(b, c, h // 2, w // 2), scale_factor=2.0, mode="bilinear")
            turned = whitened + coarse
            own_mean, matrices = covariance(turned)
            one = torch.eye(c, dtype=kept.dtype, device=kept.device)
            white = roots(matrices - kept + one)[1] * (1 + _LEAST_SHARE) ** 0.5
            flat = turned.flatten(2) - own_mean[..., None]
        return ((root @ white) @ flat + mean[..., None]).view(b, c, h, w)


def random_rotations(share: Tensor, channels: int) -> Tensor:
    """Random rotations of so many dimensions less the identity, for shares (B,) in [0, 1]: (B, channels, channels).

    At 1 their angles are about as large as those of rotations that are all as likely; at 0 nothing is turned.
    """
    free = torch.randn(len(share), channels, channels, device=share.device)
    size = share * math.pi / 3**0.5 / (2 * channels) ** 0.5
    turned: Tensor = torch.linalg.matrix_exp((free - free.mT) * size[:, None, None])
    return turned - torch.eye(channels, device=share.device)


def roots(matrices: Tensor, steps: int = 16) -> tuple[Tensor, Tensor]:
    """Root and inverse root of symmetric positive matrices, (B, C, C) each, by products of matrices alone.

    The coupled Newton-Schulz iteration (Higham 2008, "Functions of Matrices", section 6.7; for covariances of features
    Li et al. 2018, "Towards Faster Training of Global Covariance Pooling Networks", section 3.2), since no runtime of
    model files has eigenvalues. Directions of less than `_LEAST_SHARE` of the mean variance count as this share.
    """
    c = matrices.shape[-1]
    one = torch.eye(c, dtype=matrices.dtype, device=matrices.device)
    mean = matrices.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
    matrices = matrices + (_LEAST_SHARE * mean + _LEAST_VARIANCE) * one
    size = matrices.square().sum((1, 2), keepdim=True).sqrt()
    root, inverse = matrices / size, one.expand_as(matrices)
    for _ in range(steps):
        step = 1.5 * one - 0.5 * inverse @ root
        root, inverse = root @ step, step @ inverse
    return root * size.sqrt(), inverse / size.sqrt()


def _in_float32(features: Tensor) -> AbstractContextManager[object]:
    """Matrix products as they are written; bfloat16 has no digits for an inverse."""
    device = features.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


class _Gram(torch.autograd.Function):
    """The same as `flat.transpose(1, 2) @ flat / (C H W)`, without float32 copies of whole feature maps.

    Those copies, and autograd's two products in float32, were a quarter of a training step on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        ctx.save_for_backward(features)
        b, c, h, w = features.shape
        flat = _flat(features)
        with torch.autocast(features.device.type, enabled=False):
            if features.dtype == torch.float32 or features.device.type != "cpu":
                flat = flat.float()
                return flat.transpose(1, 2) @ flat / (c * h * w)
            matrices = features.new_zeros(b, c, c, dtype=torch.float32)
            for chunk in flat.chunk(-(-flat.numel() // _CHUNK), dim=1):
                chunk = chunk.float()
                matrices.baddbmm_(chunk.transpose(1, 2), chunk)
            return matrices.div_(c * h * w)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (features,) = ctx.saved_tensors
        b, c, h, w = features.shape
        with torch.autocast(features.device.type, enabled=False):
            both = (gradients[0] + gradients[0].transpose(1, 2)) / (c * h * w)
            gradient: Tensor = _flat(features) @ both.to(features.dtype)
        return gradient.view(b, h, w, c).permute(0, 3, 1, 2)


def _flat(features: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H W, C), a view in channels_last."""
    b, c, h, w = features.shape
    return features.permute(0, 2, 3, 1).reshape(b, h * w, c)

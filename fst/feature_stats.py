"""Statistics of feature maps: pure functions, used by networks and perceptual losses alike."""

from typing import Any

import torch
from torch import Tensor

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

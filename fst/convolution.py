"""Convolutions over pictures that go on beyond their border, made lean for training on a CPU.

torch's own pieces do the same sums. Under autocast they turn padding and doubling to float32 and back; autograd keeps
padded copies that it could make again, and what frozen weights never need. Time and memory of a step are what is
saved here; tests compare every function with torch's own.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Border = Literal["zeros", "reflect", "replicate"]


def pad(x: Tensor, pixels: int, border: Border) -> Tensor:
    """Continue pictures beyond their border: (B, C, H, W) -> (B, C, H + 2 pixels, W + 2 pixels), in their format."""
    around = (pixels, pixels, pixels, pixels)
    mode = "constant" if border == "zeros" else border
    if not torch.is_autocast_enabled(x.device.type):
        return F.pad(x, around, mode=mode)
    with torch.autocast(x.device.type, enabled=False):
        return F.pad(x, around, mode=mode)


def double(x: Tensor) -> Tensor:
    """Each pixel four times: (B, C, H, W) -> (B, C, 2 H, 2 W), in its format."""
    if not torch.is_autocast_enabled(x.device.type):
        return F.interpolate(x, scale_factor=2.0, mode="nearest")
    with torch.autocast(x.device.type, enabled=False):
        return F.interpolate(x, scale_factor=2.0, mode="nearest")


def halve(x: Tensor) -> Tensor:
    """The largest of each 2x2 pixels: (B, C, H, W) -> (B, C, H // 2, W // 2). The first of several gets the gradient.

    For backward, `x` and the result are kept, which others keep anyway, and not eight bytes a pixel of indices.
    """
    if not (torch.is_grad_enabled() and x.requires_grad):
        return F.max_pool2d(x, 2)
    return _Halve.apply(x)  # type: ignore[no-any-return]


def reflected_conv(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1, *, doubled: bool = False) -> Tensor:
    """Convolution over a reflected border of half the kernel: (B, C, H, W), (D, C, k, k), (D,) -> (B, D, H', W').

    H' and W' are H and W (`doubled`: of the doubled pictures) divided by `stride`, rounded up. For backward, `x` is
    kept, and doubled and padded again.
    """
    if weight.shape[-1] == 1:
        return F.conv2d(double(x) if doubled else x, weight, bias, stride)
    return _ReflectedConv.apply(x, weight, bias, stride, doubled)  # type: ignore[no-any-return]


def frozen_conv_relu(x: Tensor, weight: Tensor, bias: Tensor, border: Border) -> Tensor:
    """3x3 convolution and ReLU, with gradients to `x` only: (B, C, H, W), (D, C, 3, 3), (D,) -> (B, D, H, W).

    For backward, the result alone is kept.
    """
    if not (torch.is_grad_enabled() and x.requires_grad):
        return _frozen(x, weight, bias, border)
    return _FrozenConvReLU.apply(x, weight, bias, border)  # type: ignore[no-any-return]


class _Halve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        largest = F.max_pool2d(x, 2)
        ctx.save_for_backward(x, largest)
        return largest

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        x, largest = ctx.saved_tensors
        height, width = (2 * length for length in largest.shape[-2:])
        to_x = torch.zeros_like(x) if (height, width) != x.shape[-2:] else torch.empty_like(x)
        taken = torch.zeros_like(largest, dtype=torch.bool)
        for row in (0, 1):
            for column in (0, 1):
                here = (slice(None), slice(None), slice(row, height, 2), slice(column, width, 2))
                won = (x[here] == largest).logical_and_(taken.logical_not())
                taken.logical_or_(won)
                torch.mul(gradients[0], won, out=to_x[here])
        return to_x


class _ReflectedConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, doubled: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.biased, ctx.doubled = stride, bias is not None, doubled
        wide = double(x) if doubled else x
        return F.conv2d(pad(wide, weight.shape[-1] // 2, "reflect"), weight, bias, stride)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        (gradient,) = gradients
        pixels, stride = weight.shape[-1] // 2, [ctx.stride] * 2
        with torch.autocast(x.device.type, enabled=False):
            wide = x.to(gradient.dtype)
            padded = pad(double(wide) if ctx.doubled else wide, pixels, "reflect")
            wanted = [*ctx.needs_input_grad[:2], ctx.biased and ctx.needs_input_grad[2]]
            weight_now = weight.to(gradient.dtype)
            to_padded, to_weight, to_bias = torch.ops.aten.convolution_backward(
                gradient, padded, weight_now, [len(weight)], stride, [0, 0], [1, 1], False, [0, 0], 1, wanted
            )
            to_x = None
            if wanted[0]:
                to_x = _unpad(to_padded, pixels, "reflect")
                if ctx.doubled:
                    to_x = F.avg_pool2d(to_x, 2, divisor_override=1)
                to_x = to_x.to(x.dtype)
        learnt = zip((to_weight, to_bias), wanted[1:], strict=True)
        return to_x, *(to.to(weight.dtype) if want else None for to, want in learnt), None, None


def _frozen(x: Tensor, weight: Tensor, bias: Tensor, border: Border) -> Tensor:
    if border == "zeros":
        return F.conv2d(x, weight, bias, padding=1).relu_()
    return F.conv2d(pad(x, 1, border), weight, bias).relu_()


class _FrozenConvReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, border: Border) -> Tensor:
        activated = _frozen(x, weight, bias, border)
        ctx.save_for_backward(activated, weight)
        ctx.border, ctx.dtype = border, x.dtype
        return activated

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        activated, weight = ctx.saved_tensors
        with torch.autocast(activated.device.type, enabled=False):
            gradient = torch.ops.aten.threshold_backward(gradients[0].to(activated.dtype), activated, 0)
            weight = weight.to(activated.dtype)
            if ctx.border == "zeros":
                to_x = F.conv_transpose2d(gradient, weight, padding=1)
            else:
                to_x = _unpad(F.conv_transpose2d(gradient, weight), 1, ctx.border)
        return to_x.to(ctx.dtype), None, None, None


def _unpad(gradient: Tensor, pixels: int, border: Border) -> Tensor:
    """The way back of `pad`: what came to the border, added in place to the pixels that it was copied from."""
    for axis in (-2, -1):
        g = gradient.transpose(axis, -1)  # (.., length + 2 pixels)
        if border == "reflect":
            g[..., pixels + 1 : 2 * pixels + 1] += g[..., :pixels].flip(-1)
            g[..., -2 * pixels - 1 : -pixels - 1] += g[..., -pixels:].flip(-1)
        elif border == "replicate":
            g[..., pixels] += g[..., :pixels].sum(-1)
            g[..., -pixels - 1] += g[..., -pixels:].sum(-1)
    return gradient[..., pixels:-pixels, pixels:-pixels]

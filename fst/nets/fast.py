"""A per-style network of an eighteenth of Johnson's work: most of it at an eighth of the resolution."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fst.convolution import double
from fst.nets.blocks import ConvNorm, ConvReLU, Grain, Residual

_MARGIN = 8  # pixels: one position of the trunk
_REACH = 8  # pixels that stem and `down` see beyond what they speak of
_FINE_WAVES, _FINE_PERIODS = 8, (2.5, 8.0)  # of the second grain, in positions at a quarter of the resolution


class FastNet(nn.Module):
    """Strided stem, residual trunk at an eighth of the resolution, one block at a quarter, a convolution at a half.

    (B, 3, H, W) float32 RGB in [0, 1], any H, W >= 16 -> the same shape and range. 0.35 M parameters and 1.15 GFLOP at
    256x256 with the default settings. The layout is ours; docs/fast.md compares it with others. An eighth of the
    resolution buys twice the channels and reach for the same work, and the skip at a quarter keeps the photo's edges.
    Overlapping strided convolutions leave no grid where the picture is flat, as a pixel-unshuffle stem does; nor do
    the last two doublings, nearest neighbours with a convolution behind, of which `DoublingConv` is the second.

    Pixels are repeated into a margin, which is cut off again. Thus convolutions at high resolution need no border of
    their own: those before the trunk have pixels enough, and those after it meet zeros outside the picture. Instance
    norm stands only where it is needed. Both are for onnxruntime, which pads and normalises more slowly than it
    convolves.

    Features of the trunk are doubled bilinearly: nearest neighbours tell where a pixel lies in its position of the
    trunk, and were answered with lines 8 pixels apart. Before that they are smoothed: left to itself, the trunk turns
    whatever is flat into a chequerboard of single positions, which comes out as a regular hatching.

    Flat skies are painted from two grains: see `Grain`. That before the trunk is of regions and large strokes; that
    behind it, at a quarter of the resolution, of strokes as fine as the smoothed trunk cannot make them. In training
    both are drawn anew, so that the same photo gives another picture every time.

    Args:
        width: channels at a quarter of the resolution; the trunk has twice as many.
        blocks: residual blocks in the trunk.

    Raises:
        ValueError: a setting that cannot be.
    """

    name = "fast"

    def __init__(self, *, width: int = 32, blocks: int = 4) -> None:
        super().__init__()
        for what, value, least in (("width", width, 2), ("blocks", blocks, 0)):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{what} must be a whole number of at least {least}, not {value!r}")
        self.settings: dict[str, Any] = {"width": width, "blocks": blocks}
        self.stem = nn.Sequential(ConvReLU(3, width // 2, 5, stride=2), ConvReLU(width // 2, width, 3, stride=2))
        self.down = ConvNorm(width, 2 * width, 3, stride=2, border=None)
        self.grain = Grain(2 * width)
        self.trunk = nn.Sequential(*[Residual(2 * width) for _ in range(blocks)])
        self.up = nn.Conv2d(2 * width, width, 1)
        self.fine_grain = Grain(width, _FINE_WAVES, periods=_FINE_PERIODS)
        self.fine = nn.Sequential(
            ConvReLU(width, width, 3, border="zeros"), ConvNorm(width, width, 3, border="zeros", activate=False)
        )
        self.narrow = nn.Conv2d(width, width // 2, 1)
        self.finer = ConvNorm(width // 2, width // 2, 3, border="zeros")
        self.last = DoublingConv(width // 2, 3)

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        around = (_MARGIN + _REACH, _MARGIN + -width % 8 + _REACH, _MARGIN + _REACH, _MARGIN + -height % 8 + _REACH)
        quarter = self.stem(F.pad(image, around, mode="replicate"))
        eighth = smooth(self.up(self.trunk(self.grain(self.down(quarter)))))
        up = F.interpolate(eighth, scale_factor=2.0, mode="bilinear", align_corners=False)
        x = self.fine_grain(quarter[..., 1:-1, 1:-1] + up)
        x = x + self.fine(x)
        x = self.last(self.finer(double(self.narrow(F.relu(x)))))
        inside = (..., slice(_MARGIN, _MARGIN + height), slice(_MARGIN, _MARGIN + width))
        return torch.sigmoid(x[inside].float())


def smooth(x: Tensor) -> Tensor:
    """The binomial filter 1 2 1 in both directions, over a reflected border: (B, C, H, W) -> the same shape.

    What changes from each position to the next comes out as its mean. H and W are at least 2.
    """
    return F.avg_pool2d(F.avg_pool2d(x, 2, 1), 2, 1, padding=1, count_include_pad=False)


class DoublingConv(nn.Module):
    """Nearest-neighbour doubling, then a 3x3 convolution, at the cost of neither: (B, C, H, W) -> (B, D, 2 H, 2 W).

    After doubling, a 3x3 kernel meets only 2x2 different pixels, others for each of the four places in a doubled
    pixel: four convolutions of sums of its weights, before the pixels are shuffled (Shi et al. 2016, section 3.2).
    Unlike four kernels of their own, they give a flat picture where features are flat, and no grid. Beyond the border
    lie zeros.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        own = nn.Conv2d(n_in, n_out, 3)
        self.weight, self.bias = own.weight, own.bias

    def forward(self, x: Tensor) -> Tensor:
        # Rows 0, 1, 2 of the kernel meet pixels -1, 0, 0 for the upper place, and 0, 0, 1 for the lower.
        meets = self.weight.new_tensor([[[1, 0, 0], [0, 1, 1], [0, 0, 0]], [[0, 0, 0], [1, 1, 0], [0, 0, 1]]])
        places = torch.einsum("pyi,qxj,dcij->dpqcyx", meets, meets, self.weight)
        assert self.bias is not None
        x = F.conv2d(x, places.flatten(0, 2), self.bias.repeat_interleave(4), padding=1)
        return _shuffle(x)


def _shuffle(x: Tensor) -> Tensor:
    """Pixel shuffle by 2 (Shi et al. 2016, section 3.2): (B, 4 C, H, W) -> (B, C, 2 H, 2 W).

    As a transposed convolution: onnxruntime takes half the time for it that its own takes.
    """
    places = torch.eye(4, dtype=x.dtype, device=x.device).view(4, 1, 2, 2).repeat(x.shape[1] // 4, 1, 1, 1)
    return F.conv_transpose2d(x, places, stride=2, groups=x.shape[1] // 4)

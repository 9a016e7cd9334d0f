"""A per-style network of a twentieth of Johnson's work: most of it at an eighth of the resolution."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fst.convolution import double
from fst.nets.blocks import ConvNorm, Grain, ReflectedConv, Residual


class FastNet(nn.Module):
    """Strided stem, residual trunk at an eighth of the resolution, one block at a quarter, a convolution at a half.

    (B, 3, H, W) float32 RGB in [0, 1], any H, W >= 16 -> the same shape and range. 0.35 M parameters and 1.01 GFLOP at
    256x256 with the default settings. The layout is ours; docs/fast.md compares it with others. An eighth of the
    resolution buys twice the channels and reach for the same work, and the skip at a quarter keeps the photo's edges.
    Overlapping strided convolutions leave no grid where the picture is flat, as a pixel-unshuffle stem does; nor do
    nearest neighbours with a convolution behind. Only the last doubling is a pixel shuffle (Shi et al. 2016, section
    3.2). Flat skies are painted from a grain: see `Grain`. In training it is drawn anew, so that the
    same photo gives another picture every time.

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
        self.stem = nn.Sequential(ConvNorm(3, width // 2, 5, stride=2), ConvNorm(width // 2, width, 3, stride=2))
        self.down = ConvNorm(width, 2 * width, 3, stride=2)
        self.grain = Grain(2 * width)
        self.trunk = nn.Sequential(*[Residual(2 * width) for _ in range(blocks)])
        self.up = nn.Conv2d(2 * width, width, 1)
        self.fine = Residual(width)
        self.narrow = nn.Conv2d(width, width // 2, 1)
        self.finer = ConvNorm(width // 2, width // 2, 3, doubled=True)
        self.last = ReflectedConv(width // 2, 3 * 2 * 2, 3)

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        padded = F.pad(image, (0, -width % 8, 0, -height % 8), mode="replicate")  # cut off again below
        quarter = self.stem(padded)
        eighth = self.trunk(self.grain(self.down(quarter)))
        x = self.fine(quarter + double(self.up(eighth)))
        x = self.last(self.finer(self.narrow(F.relu(x))))
        return torch.sigmoid(F.pixel_shuffle(x, 2)[..., :height, :width].float())

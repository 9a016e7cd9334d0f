"""The per-style network of Johnson et al. 2016, "Perceptual Losses for Real-Time Style Transfer"."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from fst.nets.blocks import ConvNorm, Reflect, Residual, Upsample

Output = Literal["sigmoid", "clamp"]


class JohnsonNet(nn.Module):
    """Two strided convolutions down, residual blocks at a quarter of the resolution, two upsamplings back.

    (B, 3, H, W) float32 RGB in [0, 1], any H, W >= 16 -> the same shape and range. 1.68 M parameters and 20.2 GFLOP at
    256x256 with the default settings. Johnson et al. 2016, supplement, table 1.
    Departures: instance norm for batch norm (Ulyanov et al. 2017); resize-convolution for transposed convolution (no
    checkerboard); reflection padding in every layer instead of 40 pixels once (the size stays); sigmoid for the scaled
    tanh, the same curve on [0, 1].

    Args:
        width: channels after the first convolution; the trunk has four times as many.
        blocks: residual blocks in the trunk.
        output: how the last convolution becomes a picture: "sigmoid", or "clamp" for networks that were trained to
            give pixel values at once.

    Raises:
        ValueError: a setting that cannot be.
    """

    name = "johnson"

    def __init__(self, *, width: int = 32, blocks: int = 5, output: Output = "sigmoid") -> None:
        super().__init__()
        for what, value, least in (("width", width, 1), ("blocks", blocks, 0)):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{what} must be a whole number of at least {least}, not {value!r}")
        if output not in ("sigmoid", "clamp"):
            raise ValueError(f'output must be "sigmoid" or "clamp", not {output!r}')
        self.settings: dict[str, Any] = {"width": width, "blocks": blocks, "output": output}
        self.down = nn.Sequential(
            ConvNorm(3, width, 9),
            ConvNorm(width, 2 * width, 3, stride=2),
            ConvNorm(2 * width, 4 * width, 3, stride=2),
        )
        self.trunk = nn.Sequential(*[Residual(4 * width) for _ in range(blocks)])
        self.up = nn.Sequential(Upsample(4 * width, 2 * width), Upsample(2 * width, width))
        self.last = nn.Sequential(Reflect(4), nn.Conv2d(width, 3, 9))

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        x = self.last(self.up(self.trunk(self.down(image))))
        # Each halving rounds up, so that an odd size comes back up to 3 pixels larger; the surplus is cut here.
        x = x[..., :height, :width].float()
        return torch.sigmoid(x) if self.settings["output"] == "sigmoid" else x.clamp(0, 1)

"""The pieces that picture-to-picture networks are built of."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fst.convolution import double, pad, reflected_conv

_BENDS = 4  # waves that bend those of a grain


class InstanceNorm(nn.InstanceNorm2d):
    """Instance norm with a learnt gain and shift per channel; statistics in float32 (Ulyanov et al. 2017).

    (B, C, H, W) -> the same shape. On a CPU torch's own leaves channels_last and comes back, in both directions; batch
    norm of one picture at a time is the same sum without the copies, and three times as fast.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and x.device.type == "cpu"):
            return super().forward(x)
        pictures = [F.batch_norm(p, None, None, self.weight, self.bias, True, 0.0, self.eps) for p in x.chunk(len(x))]
        return torch.cat(pictures)


class Reflect(nn.Module):
    """Reflection of so many pixels at each border: (B, C, H, W) -> (B, C, H + 2 pixels, W + 2 pixels)."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.pixels = pixels

    def forward(self, x: Tensor) -> Tensor:
        return pad(x, self.pixels, "reflect")


class ReflectedConv(nn.Conv2d):
    """Convolution over a reflected border: (B, n_in, H, W) -> (B, n_out, ceil(H / stride), ceil(W / stride)).

    `doubled`: of pictures that are doubled first, nearest neighbour by nearest neighbour.
    """

    def __init__(self, n_in: int, n_out: int, kernel: int, *, stride: int = 1, doubled: bool = False) -> None:
        super().__init__(n_in, n_out, kernel, stride)
        self.doubled = doubled

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return reflected_conv(x, self.weight, self.bias, self.stride[0], doubled=self.doubled)
        return super().forward(pad(double(x) if self.doubled else x, self.kernel_size[0] // 2, "reflect"))


class ConvReLU(nn.Module):
    """Convolution and ReLU, which onnxruntime does in one step: (B, n_in, H, W) -> (B, n_out, H', W').

    With a border of zeros H' and W' are H and W divided by `stride`, rounded up; without, only places whose pixels are
    all there are kept.
    """

    def __init__(
        self, n_in: int, n_out: int, kernel: int, *, stride: int = 1, border: Literal["zeros"] | None = None
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2 if border else 0)

    def forward(self, x: Tensor) -> Tensor:
        convolved: Tensor = self.conv(x)
        return convolved.relu_()


class ConvNorm(nn.Module):
    """Padding, convolution, instance norm, ReLU; the resolution is kept or divided by `stride`.

    (B, n_in, H, W) -> (B, n_out, ceil(H / stride), ceil(W / stride)). Reflection keeps the border free of the dark
    frame that zero padding leaves; instance norm (Ulyanov et al. 2017, "Improved Texture Networks", section
    2.2) removes the photo's own contrast, and its statistics are float32 under any autocast.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel: int,
        *,
        stride: int = 1,
        doubled: bool = False,
        activate: bool = True,
        border: Literal["reflect", "zeros"] | None = "reflect",
    ) -> None:
        super().__init__()
        if doubled and border != "reflect":
            raise ValueError("only over a reflected border a convolution doubles its pictures itself")
        if border != "reflect":
            self.conv: nn.Module = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2 if border else 0)
        else:
            self.conv = ReflectedConv(n_in, n_out, kernel, stride=stride, doubled=doubled)
        self.norm = InstanceNorm(n_out)
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return x.relu_() if self.activate else x


class Residual(nn.Module):
    """Two 3x3 convolutions beside an identity, with no ReLU after the sum (Johnson et al. 2016, supplement).

    (B, width, H, W) -> the same shape.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = ConvNorm(width, width, 3)
        self.second = ConvNorm(width, width, 3, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.second(self.first(x))
        return x + added


class Upsample(nn.Module):
    """Nearest-neighbour doubling, then a convolution: no checkerboard (Odena et al. 2016, "Deconvolution...").

    (B, n_in, H, W) -> (B, n_out, 2 H, 2 W). Departure from Johnson et al., who use a transposed convolution.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.unit = ConvNorm(n_in, n_out, 3, doubled=True)

    def forward(self, x: Tensor) -> Tensor:
        grown: Tensor = self.unit(x)
        return grown


class Grain(nn.Module):
    """Add a random field to features, so that flat parts of a photo give a network something to paint strokes from.

    (B, C, H, W) -> the same shape. Where a photo is flat, so is every feature, and a network of convolutions can only
    answer with a flat colour or a regular grid. The field is a sum of waves of random directions and of `periods` in
    between these, in positions, which longer waves bend: straight ones would meet in a lattice, and be painted as one.
    Their phases are drawn anew for every photo in training, as the noise of Ulyanov et al. 2016 ("Texture Networks",
    section 3.2) is, and are fixed in use: the same photo gives the same picture. Phases that are told picture by
    picture, (1 or B, waves) in place of the buffer `phase`, hold in both; what bends the waves is fixed then.
    """

    def __init__(self, channels: int, waves: int = 16, *, periods: tuple[float, float] = (2.5, 10.0)) -> None:
        super().__init__()
        least, most = periods
        generator = torch.Generator().manual_seed(0)
        direction, period, phase = torch.rand(3, waves, generator=generator)
        self.down: Tensor
        self.right: Tensor
        self.phase: Tensor
        down, right = _frequencies(direction, least * (most / least) ** period)
        self.register_buffer("down", down)  # radians per position
        self.register_buffer("right", right)
        self.register_buffer("phase", 2 * math.pi * phase)
        self.mix = nn.Conv2d(waves, channels, 1, bias=False)
        # Nothing of the bends is stored: it follows from the rest, and networks learnt before there were any.
        direction, period, phase, shift = torch.rand(4, _BENDS, generator=generator)
        self.bend_down: Tensor
        self.bend_right: Tensor
        self.bend_phase: Tensor
        self.bend: Tensor
        bend_down, bend_right = _frequencies(direction, most * (2 + 4 * period))
        self.register_buffer("bend_down", bend_down, persistent=False)
        self.register_buffer("bend_right", bend_right, persistent=False)
        self.register_buffer("bend_phase", 2 * math.pi * phase, persistent=False)
        moved = 0.2 * most * torch.stack([(2 * math.pi * shift).sin(), (2 * math.pi * shift).cos()])  # positions
        bend = torch.stack([down, right], 1) @ moved
        self.register_buffer("bend", bend, persistent=False)  # (waves, bends), radians

    def forward(self, x: Tensor) -> Tensor:
        phase, told = (self.phase[None], False) if self.phase.ndim == 1 else (self.phase, True)
        bend_phase = self.bend_phase[None]
        if self.training and not told:
            phase = 2 * math.pi * torch.rand(len(x), len(self.phase), device=x.device)
            bend_phase = 2 * math.pi * torch.rand(len(x), _BENDS, device=x.device)
        bends = _waves(x, bend_phase, self.bend_down, self.bend_right).sin()  # (1 or B, bends, H, W)
        straight = _waves(x, phase, self.down, self.right)
        bent = straight + (self.bend @ bends.flatten(2)).view(-1, *straight.shape[1:])
        mixed: Tensor = self.mix(bent.sin())
        return x + mixed


def _frequencies(direction: Tensor, period: Tensor) -> tuple[Tensor, Tensor]:
    """Of waves of these directions, in turns of 180 degrees: radians per position downwards and to the right."""
    return 2 * math.pi / period * (math.pi * direction).sin(), 2 * math.pi / period * (math.pi * direction).cos()


def _waves(x: Tensor, phase: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Where in its turn each wave is at each position of (B, C, H, W): (1 or B, waves, H, W), in radians."""
    rows = torch.arange(x.shape[-2], device=x.device, dtype=torch.float32)
    columns = torch.arange(x.shape[-1], device=x.device, dtype=torch.float32)
    of_rows, of_columns = down[:, None] * rows, right[:, None] * columns  # (waves, H), (waves, W)
    return phase[..., None, None] + of_rows[..., None] + of_columns[:, None]

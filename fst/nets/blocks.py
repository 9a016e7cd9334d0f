"""The pieces that picture-to-picture networks are built of."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fst.convolution import double, pad, reflected_conv


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


class ConvNorm(nn.Module):
    """Reflection padding, convolution, instance norm, ReLU; the resolution is kept or divided by `stride`.

    (B, n_in, H, W) -> (B, n_out, ceil(H / stride), ceil(W / stride)). Reflection keeps the border free of the dark
    frame that zero padding leaves; instance norm (Ulyanov et al. 2017, "Improved Texture Networks", section
    2.2) removes the photo's own contrast, and its statistics are float32 under any autocast.
    """

    def __init__(
        self, n_in: int, n_out: int, kernel: int, *, stride: int = 1, doubled: bool = False, activate: bool = True
    ) -> None:
        super().__init__()
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

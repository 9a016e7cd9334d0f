"""A network for any style at once: the photo's features take on the statistics of a style's, and are painted again."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from fst.convolution import double
from fst.feature_stats import adain, moments, root_of_covariance, whitening_coloring
from fst.inputs import Value
from fst.nets.blocks import ConvNorm, Grain, ReflectedConv, Residual
from fst.nets.conditional import conditional_norms, split_numbers

_HIDDEN = 128
_MULTIPLE = 8  # of which the decoder makes pictures


class AdaINNet(nn.Module):
    """An encoder, a transfer of statistics, and a decoder that learns to paint with any of them.

    (B, 3, H, W) float32 RGB in [0, 1], any H, W >= 16, and a style's code (1 or B, K) -> the same shape and range.
    Adaptive instance normalisation (Huang & Belongie 2017, section 5) or whitening and colouring (Li et al. 2017,
    "Universal Style Transfer via Feature Transforms", section 3.2), of which deep feature perturbation (Wang et al.
    2020, "Diversified Arbitrary Style Transfer via Deep Feature Perturbation", section 3) makes many results.

    Departure from these: the decoder is no mirror of the encoder. It works at an eighth, a quarter and half of the
    resolution, much as `FastNet` does, and its instance norms are told the mean and the deviation of its input: to put
    paint where a style has paint takes more than the features of a photo.

    At strength s the features go s of the way (ibid., section 6.3), and the picture s (2 - s): the photo itself at 0.

    Args:
        encoder: frozen; (B, 3, H, W) -> (B, encoder.channels, H // encoder.factor, W // encoder.factor). Its `name` and
            `settings` make it again, see fst.perceptual.encoders.
        transfer: "adain": codes are means and deviations, K = 2 C. "wct": means and roots of covariances, K = C + C^2,
            and a further input is `rotation`, (1 or B, C^2): an orthogonal matrix of the whitened features, less the
            identity; any share of it is the shared way there.
        width: channels of the decoder at a quarter of the resolution; it has twice as many at an eighth.
        blocks: residual blocks at an eighth of the resolution.

    Raises:
        ValueError: a setting that cannot be.
    """

    name = "adain"

    def __init__(
        self, *, encoder: nn.Module, transfer: Literal["adain", "wct"] = "adain", width: int = 64, blocks: int = 3
    ) -> None:
        super().__init__()
        if not isinstance(encoder, nn.Module):
            raise ValueError(f"encoder must be an encoder of fst.perceptual.encoders, not {encoder!r:.40}")
        if transfer not in ("adain", "wct"):
            raise ValueError(f"transfer must be adain or wct, not {transfer!r}")
        for what, value, least in (("width", width, 2), ("blocks", blocks, 0)):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{what} must be a whole number of at least {least}, not {value!r}")
        self.encoder, self.transfer = encoder, transfer
        self._own: dict[str, Any] = {"transfer": transfer, "width": width, "blocks": blocks}
        self.channels = int(encoder.channels)  # type: ignore[arg-type]
        self.decoder = Decoder(self.channels, width, blocks, int(encoder.factor))  # type: ignore[arg-type]

    @property
    def settings(self) -> dict[str, Any]:
        encoder = {"name": self.encoder.name, **self.encoder.settings}  # type: ignore[dict-item]
        return {"encoder": encoder, **self._own}

    @property
    def inputs(self) -> dict[str, Value]:
        c = self.channels
        if self.transfer == "adain":
            return {"style_code": 2 * c, "strength": 1.0}
        return {"style_code": c + c * c, "strength": 1.0, "rotation": c * c}

    def encode(self, pictures: Tensor) -> Tensor:
        """Style pictures (B, 3, H, W), RGB in [0, 1] -> their codes (B, K), float32."""
        features = self.encoder(pictures)
        if self.transfer == "adain":
            return torch.cat(moments(features), 1)
        mean, root = root_of_covariance(features)
        return torch.cat([mean, root.flatten(1)], 1)

    def forward(
        self, image: Tensor, style_code: Tensor, strength: Tensor | None = None, rotation: Tensor | None = None
    ) -> Tensor:
        height, width = image.shape[-2:]
        features = self.encoder(F.pad(image, (0, -width % _MULTIPLE, 0, -height % _MULTIPLE), mode="replicate"))
        mean, rest = style_code[:, : self.channels], style_code[:, self.channels :]
        if self.transfer == "adain":
            moved = adain(features, mean, rest)
        else:
            square = (-1, self.channels, self.channels)
            turn = None if rotation is None else rotation.view(square)
            moved = whitening_coloring(features, mean, rest.view(square), turn)
        if strength is not None:
            moved = features + strength.view(-1, 1, 1, 1) * (moved - features)
        painted: Tensor = self.decoder(moved)[..., :height, :width]
        if strength is None:
            return painted
        share = (strength * (2 - strength)).view(-1, 1, 1, 1)
        return image + share * (painted - image)


class Decoder(nn.Module):
    """Features (B, channels, h, w) of a picture -> the picture (B, 3, factor h, factor w); factor h and w divide by 8.

    Every gain and shift of its instance norms is told from the mean and the deviation of each of its channels.
    """

    def __init__(self, channels: int, width: int, blocks: int, factor: int) -> None:
        super().__init__()
        if factor not in (4, 8):
            raise ValueError(f"the encoder must be at a quarter or an eighth of the photo's size, not at 1/{factor}")
        self.body = _Body(channels, width, blocks, quarter=factor == 4)
        self.sizes, start = conditional_norms(self.body)
        last = nn.Linear(_HIDDEN, len(start))
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.copy_(start)
        self.tell = nn.Sequential(nn.Linear(2 * channels, _HIDDEN), nn.ReLU(), last)

    def forward(self, features: Tensor) -> Tensor:
        numbers = self.tell(torch.cat(moments(features), 1))
        painted: Tensor = functional_call(self.body, split_numbers(numbers, self.sizes), (features,))
        return torch.sigmoid(painted.float())


class _Body(nn.Module):
    """`quarter`: the features are at a quarter of the resolution, and not at an eighth."""

    def __init__(self, channels: int, width: int, blocks: int, *, quarter: bool) -> None:
        super().__init__()
        self.quarter = quarter
        self.narrow = nn.Conv2d(channels, width if quarter else 2 * width, 1)
        self.down: nn.Module = ConvNorm(width, 2 * width, 3, stride=2) if quarter else nn.Identity()
        self.grain = Grain(2 * width)
        self.trunk = nn.Sequential(*[Residual(2 * width) for _ in range(blocks)])
        self.up = nn.Conv2d(2 * width, width, 1)
        self.fine = Residual(width)
        self.finer = ConvNorm(width, width // 2, 3, doubled=True)
        self.last = ReflectedConv(width // 2, 3, 3, doubled=True)

    def forward(self, features: Tensor) -> Tensor:
        x = self.narrow(features)
        grown = double(self.up(self.trunk(self.grain(self.down(x)))))
        x = self.fine(x + grown if self.quarter else grown)
        painted: Tensor = self.last(self.finer(F.relu(x)))
        return painted

"""A network that is told what to paint: which style, how much of it, how large its strokes, which of many results."""

import math
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from fst.inputs import Value
from fst.nets.blocks import Grain, InstanceNorm

AnyModule = TypeVar("AnyModule", bound=nn.Module)

_TERMS = 6  # 1, a, b, a^2, b^2, a b of a = 1 - strength and b = log2 stroke, all but the first 0 where both are neutral
_SINES = 32  # of the noise, from which gains and shifts are made
_TURN = 2.0  # radians by which a standard normal noise turns each of them, and each phase of a grain
_PERIODS = (8.0, 64.0)  # positions of the trunk: regions of a picture, not strokes


class ConditionalNorm(nn.Module):
    """Instance norm whose gain and shift are told picture by picture (Dumoulin et al. 2017, section 2.2).

    (B, C, H, W) -> the same shape. `gain` and `shift`, (1 or B, C), stand in for buffers of these names in each call.
    """

    def __init__(self, norm: InstanceNorm) -> None:
        super().__init__()
        self.eps = norm.eps
        self.gain: Tensor
        self.shift: Tensor
        self.register_buffer("gain", norm.weight.detach().clone()[None], persistent=False)
        self.register_buffer("shift", norm.bias.detach().clone()[None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        gain, shift = self.gain.expand(b, c), self.shift.expand(b, c)
        if self.training and x.device.type == "cpu":  # as InstanceNorm does
            pictures = zip(x.chunk(b), gain, shift, strict=True)
            return torch.cat([F.batch_norm(p, None, None, g, s, True, 0.0, self.eps) for p, g, s in pictures])
        one = F.instance_norm(x.reshape(1, b * c, h, w), weight=gain.flatten(), bias=shift.flatten(), eps=self.eps)
        return one.reshape(b, c, h, w)


class ConditionalNet(nn.Module):
    """Another network, told its styles, strength, stroke and noise through its instance norms and grains.

    (B, 3, H, W) float32 RGB in [0, 1] -> the same; inputs as in fst/inputs.py, (1,) or (B,), `styles` (1 or B, S).
    The convolutions serve all styles; each style has a gain and shift of its own for every norm, and a mix of styles is
    that mix of them (Dumoulin et al. 2017, "A Learned Representation For Artistic Style", section 2.2). They are
    polynomials of strength and stroke, where Babaeizadeh & Ghiasi 2018, "Adjustable Real-time Style Transfer", section
    3, predict them by a small network from the weights of the losses: they cost nothing beside the convolutions, and
    the neutral values leave the network as it was. All numbers of a style are one tensor, summed in the order of the
    styles: one that is added changes no bit of the others' pictures.
    The result is photo + s (2 - s) (painted - photo) for strength s: the photo itself at 0, whatever was learnt.

    Noise (B, K) turns angles: a fixed one each, plus a fixed direction times the noise. The sines of some, mapped
    linearly, are added to all gains and shifts, which changes the picture as a whole; others are the phases of the
    grains, of the network's own and of one with waves as long as a picture's regions, added before the trunk, which
    decide where in the picture what is painted. Ulyanov et al. 2017 ("Improved Texture Networks", section 2.1) and Li
    et al. 2017 ("Diversified Texture Synthesis with Feed-forward Networks", section 3) feed noise to the first layers
    instead. Angles have no middle: no noise, which is 0 everywhere, is a noise like any other.

    Args:
        net: its instance norms are replaced, and what they have learnt is where every style begins.
        styles: how many.
        adjustable: whether it has the inputs `strength` and `stroke`.
        noise: length of the input `noise`; 0 for none. The network needs a `trunk` of residual blocks for it.

    Raises:
        ValueError: a network without instance norms, or nothing that it could be told.
    """

    name = "conditional"

    def __init__(self, *, net: nn.Module, styles: int = 1, adjustable: bool = False, noise: int = 0) -> None:
        super().__init__()
        if not isinstance(net, nn.Module) or not _all(net, InstanceNorm):
            raise ValueError(f"net must be a network with instance norms, not {net!r:.40}")
        if not isinstance(noise, int) or isinstance(noise, bool) or noise < 0:
            raise ValueError(f"noise must be a whole number of at least 0, not {noise!r}")
        if not isinstance(styles, int) or styles < 1 or not isinstance(adjustable, bool):
            raise ValueError(f"styles must be a whole number of at least 1, adjustable a boolean, not {styles!r}")
        if styles == 1 and not adjustable and not noise:
            raise ValueError("one style that is not adjustable needs no conditional network")
        self.adjustable, self.noise = adjustable, noise
        self._inner: dict[str, Any] = {"name": net.name, **net.settings}  # type: ignore[dict-item]
        if noise:
            _add_grain(net)
        self._sizes, start = conditional_norms(net)
        table = torch.zeros(_TERMS if adjustable else 1, len(start))
        table[0] = start
        self.styles = nn.ParameterList([nn.Parameter(table.clone()) for _ in range(styles)])
        self.net = net
        if noise:
            self._add_noise(len(start))

    def _add_noise(self, numbers: int) -> None:
        """What makes `numbers` gains and shifts, and the grains' phases, of noise."""
        generator = torch.Generator().manual_seed(1)
        phases = {name: grain.phase for name, grain in _all(self.net, Grain).items()}
        self._angles = {"sines": _SINES, **{f"{name}.phase": len(phase) for name, phase in phases.items()}}
        turn = torch.randn(self.noise, sum(self._angles.values()), generator=generator)
        self.angle: Tensor
        self.turn: Tensor
        own = 2 * math.pi * torch.rand(_SINES, generator=generator)
        self.register_buffer("angle", torch.cat([own, *phases.values()]))
        self.register_buffer("turn", _TURN * turn / turn.norm(dim=0))
        self.spread = nn.Parameter(0.1 * (2 / _SINES) ** 0.5 * torch.randn(_SINES, numbers))

    @property
    def settings(self) -> dict[str, Any]:
        settings = {"net": self._inner, "styles": len(self.styles), "adjustable": self.adjustable}
        return settings | ({"noise": self.noise} if self.noise else {})

    @property
    def inputs(self) -> dict[str, Value]:
        """Neutral are full strength, strokes as trained, the first style, and no noise."""
        neutral: dict[str, Value] = {"strength": 1.0, "stroke": 1.0} if self.adjustable else {}
        if len(self.styles) > 1:
            neutral["styles"] = [1.0, *[0.0] * (len(self.styles) - 1)]
        if self.noise:
            neutral["noise"] = self.noise
        return neutral

    def add_style(self) -> nn.Parameter:
        """Add a style, which begins as the mean of the others, and return its numbers."""
        mean = torch.stack([each.detach() for each in self.styles]).mean(0)
        added = nn.Parameter(mean)
        self.styles.append(added)
        return added

    def unconditioned(self, numbers: Tensor) -> dict[str, Tensor]:
        """Weights for the network alone, with these gains and shifts, (numbers,), in its norms."""
        weights: dict[str, Tensor] = self.net.state_dict()
        for name, part in split_numbers(numbers[None], self._sizes).items():
            norm, _, kind = name.rpartition(".")
            weights[f"{norm}.{'weight' if kind == 'gain' else 'bias'}"] = part[0]
        return weights

    def forward(
        self,
        image: Tensor,
        strength: Tensor | None = None,
        stroke: Tensor | None = None,
        styles: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        terms = self._terms(image.new_ones(1), strength, stroke)[..., None]
        rows = [(terms * table).sum(1) for table in self.styles]  # (1 or B, numbers) each
        mixed = rows[0]
        if styles is not None:
            mixed = styles[:, :1] * rows[0]
            for number, row in enumerate(rows[1:], 1):
                mixed = mixed + styles[:, number, None] * row
        phases: dict[str, Tensor] = {}
        if self.noise:
            phases = self._turned(noise)
            mixed = mixed + (phases.pop("sines").sin()[..., None] * self.spread).sum(1)
        painted: Tensor = functional_call(self.net, split_numbers(mixed, self._sizes) | phases, (image,))
        if strength is None:
            return painted
        share = (strength * (2 - strength)).view(-1, 1, 1, 1)
        return image + share * (painted - image)

    def _turned(self, noise: Tensor | None) -> dict[str, Tensor]:
        """(1 or B, K) -> {"sines": (1 or B, sines), "grain.phase": (1 or B, waves), ...}, in radians.

        By sums and not by a product of matrices, so that no precision and no size of batch changes a picture.
        """
        angles = self.angle[None]
        if noise is not None:
            angles = angles + (noise[..., None] * self.turn).sum(1)
        return dict(zip(self._angles, torch.split(angles, list(self._angles.values()), dim=1), strict=True))

    def _terms(self, one: Tensor, strength: Tensor | None, stroke: Tensor | None) -> Tensor:
        """(1 or B, terms)."""
        if not self.adjustable:
            return one[:, None]
        less = 1 - (one if strength is None else strength)
        larger = torch.log2(one if stroke is None else stroke)
        a, b = less + 0 * larger, larger + 0 * less  # of one shape
        return torch.stack([torch.ones_like(a), a, b, a * a, b * b, a * b], 1)


def conditional_norms(net: nn.Module) -> tuple[dict[str, int], Tensor]:
    """Replace a network's instance norms by `ConditionalNorm`s.

    Returns: how many numbers each gain and shift has, by name and in order ({"stem.0.norm.gain": 32,
    "stem.0.norm.shift": 32, ...}), for `split_numbers`; and all numbers that were learnt, (numbers,).
    """
    norms = _all(net, InstanceNorm)
    start = torch.cat([each.detach() for norm in norms.values() for each in (norm.weight, norm.bias)])
    for name, norm in norms.items():
        net.set_submodule(name, ConditionalNorm(norm))
    return {f"{name}.{part}": norm.num_features for name, norm in norms.items() for part in ("gain", "shift")}, start


def split_numbers(numbers: Tensor, sizes: dict[str, int]) -> dict[str, Tensor]:
    """(1 or B, numbers) -> {"stem.0.norm.gain": (1 or B, C), "stem.0.norm.shift": ...}, for `functional_call`."""
    return dict(zip(sizes, torch.split(numbers, list(sizes.values()), dim=1), strict=True))


def _add_grain(net: nn.Module) -> None:
    """Put a grain of long waves before the network's trunk, faint to begin with."""
    trunk = getattr(net, "trunk", None)
    if not isinstance(trunk, nn.Module) or not (norms := _all(trunk, InstanceNorm)):
        raise ValueError("noise needs a network with residual blocks")
    grain = Grain(next(iter(norms.values())).num_features, periods=_PERIODS)
    with torch.no_grad():
        grain.mix.weight.mul_(0.1)
    net.trunk = nn.Sequential(grain, trunk)


def _all(net: nn.Module, kind: type[AnyModule]) -> dict[str, AnyModule]:
    return {name: module for name, module in net.named_modules() if isinstance(module, kind)}

"""A network that is told what to paint: which of several styles, how much of it, and with how large strokes."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from fst.inputs import Value
from fst.nets.blocks import InstanceNorm

_TERMS = 6  # 1, a, b, a^2, b^2, a b of a = 1 - strength and b = log2 stroke, all but the first 0 where both are neutral


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
    """Another network, told its styles, strength and stroke through its instance norms.

    (B, 3, H, W) float32 RGB in [0, 1] -> the same; inputs as in fst/inputs.py, (1,) or (B,), `styles` (1 or B, S).
    The convolutions serve all styles; each style has a gain and shift of its own for every norm, and a mix of styles is
    that mix of them (Dumoulin et al. 2017, "A Learned Representation For Artistic Style", section 2.2). They are
    polynomials of strength and stroke, where Babaeizadeh & Ghiasi 2018, "Adjustable Real-time Style Transfer", section
    3, predict them by a small network from the weights of the losses: they cost nothing beside the convolutions, and
    the neutral values leave the network as it was. All numbers of a style are one tensor, summed in the order of the
    styles: one that is added changes no bit of the others' pictures.
    The result is photo + s (2 - s) (painted - photo) for strength s: the photo itself at 0, whatever was learnt.

    Args:
        net: its instance norms are replaced, and what they have learnt is where every style begins.
        styles: how many.
        adjustable: whether it has the inputs `strength` and `stroke`.

    Raises:
        ValueError: a network without instance norms, or nothing that it could be told.
    """

    name = "conditional"

    def __init__(self, *, net: nn.Module, styles: int = 1, adjustable: bool = False) -> None:
        super().__init__()
        if not isinstance(net, nn.Module) or not _norms(net):
            raise ValueError(f"net must be a network with instance norms, not {net!r:.40}")
        if not isinstance(styles, int) or styles < 1 or not isinstance(adjustable, bool):
            raise ValueError(f"styles must be a whole number of at least 1, adjustable a boolean, not {styles!r}")
        if styles == 1 and not adjustable:
            raise ValueError("one style that is not adjustable needs no conditional network")
        self.adjustable = adjustable
        self._inner: dict[str, Any] = {"name": net.name, **net.settings}  # type: ignore[dict-item]
        self._sizes, start = conditional_norms(net)
        table = torch.zeros(_TERMS if adjustable else 1, len(start))
        table[0] = start
        self.styles = nn.ParameterList([nn.Parameter(table.clone()) for _ in range(styles)])
        self.net = net

    @property
    def settings(self) -> dict[str, Any]:
        return {"net": self._inner, "styles": len(self.styles), "adjustable": self.adjustable}

    @property
    def inputs(self) -> dict[str, Value]:
        """Neutral are full strength, strokes as trained, and the first style."""
        neutral: dict[str, Value] = {"strength": 1.0, "stroke": 1.0} if self.adjustable else {}
        if len(self.styles) > 1:
            neutral["styles"] = [1.0, *[0.0] * (len(self.styles) - 1)]
        return neutral

    def add_style(self) -> nn.Parameter:
        """Add a style, which begins as the mean of the others, and return its numbers."""
        mean = torch.stack([each.detach() for each in self.styles]).mean(0)
        added = nn.Parameter(mean)
        self.styles.append(added)
        return added

    def forward(
        self,
        image: Tensor,
        strength: Tensor | None = None,
        stroke: Tensor | None = None,
        styles: Tensor | None = None,
    ) -> Tensor:
        terms = self._terms(image.new_ones(1), strength, stroke)[..., None]
        rows = [(terms * table).sum(1) for table in self.styles]  # (1 or B, numbers) each
        mixed = rows[0]
        if styles is not None:
            mixed = styles[:, :1] * rows[0]
            for number, row in enumerate(rows[1:], 1):
                mixed = mixed + styles[:, number, None] * row
        painted: Tensor = functional_call(self.net, split_numbers(mixed, self._sizes), (image,))
        if strength is None:
            return painted
        share = (strength * (2 - strength)).view(-1, 1, 1, 1)
        return image + share * (painted - image)

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
    norms = _norms(net)
    start = torch.cat([each.detach() for norm in norms.values() for each in (norm.weight, norm.bias)])
    for name, norm in norms.items():
        net.set_submodule(name, ConditionalNorm(norm))
    return {f"{name}.{part}": norm.num_features for name, norm in norms.items() for part in ("gain", "shift")}, start


def split_numbers(numbers: Tensor, sizes: dict[str, int]) -> dict[str, Tensor]:
    """(1 or B, numbers) -> {"stem.0.norm.gain": (1 or B, C), "stem.0.norm.shift": ...}, for `functional_call`."""
    return dict(zip(sizes, torch.split(numbers, list(sizes.values()), dim=1), strict=True))


def _norms(net: nn.Module) -> dict[str, InstanceNorm]:
    return {name: module for name, module in net.named_modules() if isinstance(module, InstanceNorm)}

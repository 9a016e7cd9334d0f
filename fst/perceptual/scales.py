"""Layers seen at a fraction of the resolution: "relu3_4/2" is relu3_4 of the picture at half its size.

A layer's features see so many pixels, and no farther; strokes longer than that are nobody's wish. Of a smaller picture
the same layer sees more of it, for a fraction of the work (Snelgrove 2017, "High-Resolution Multi-Scale Neural Texture
Synthesis").
"""

from collections.abc import Callable, Iterable

from torch import Tensor
from torch.nn import functional as F

from fst.errors import UsageError

DIVISORS = (1, 2, 4)
Extractor = Callable[[Tensor, Iterable[str]], dict[str, Tensor]]


def split(layer: str) -> tuple[str, int]:
    """The tap and the divisor of the resolution: "relu3_4/2" -> ("relu3_4", 2), "relu3_4" -> ("relu3_4", 1).

    Raises:
        UsageError: a divisor that is none of DIVISORS.
    """
    tap, _, divisor = layer.partition("/")
    if "/" in layer and divisor not in map(str, DIVISORS):
        raise UsageError(f"layer {layer!r}: behind the stroke stands 2 or 4, as in {tap}/2")
    return tap, int(divisor or 1)


def taps_of(layers: Iterable[str]) -> list[str]:
    """The taps that an extractor needs for these layers, each once."""
    return list(dict.fromkeys(split(layer)[0] for layer in layers))


def features_at(extractor: Extractor, pictures: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
    """Features by layer of (B, 3, H, W) pictures, at the resolutions that the layers' names ask for."""
    wanted = {layer: split(layer) for layer in layers}
    found: dict[str, Tensor] = {}
    for divisor in DIVISORS:
        here = {layer: tap for layer, (tap, of) in wanted.items() if of == divisor}
        if here:
            smaller = pictures if divisor == 1 else F.avg_pool2d(pictures, divisor)
            features = extractor(smaller, tuple(here.values()))
            found |= {layer: features[tap] for layer, tap in here.items()}
    return found

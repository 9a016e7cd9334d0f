"""Encoders: what one layer of a perceptual network sees, for networks that paint from features.

An encoder becomes a part of the network that uses it, and of its model file: of VGG-19, that is its weights, too.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fst.download import DownloadProgress
from fst.errors import UsageError, nearest
from fst.perceptual import lite, vgg

_CHANNELS = {"1": 64, "2": 128, "3": 256, "4": 512, "5": 512}  # of VGG-19's blocks
_SCALE = 1 / 256  # of relu3_1: its channels' means and deviations come near 1
_KINDS: dict[str, Any] = {"lite": lite, "vgg19": vgg}


class Encoder(nn.Module):
    """The features of one layer: (B, 3, H, W) RGB in [0, 1] -> (B, channels, H // factor, W // factor). Frozen.

    They are scaled to values near 1.

    Args:
        layers: called as layers(pictures, taps), it gives the features by tap.
        name: "lite" or "vgg19".
        tap: the layer ("relu3_1").
    """

    def __init__(self, layers: nn.Module, *, name: str, tap: str) -> None:
        super().__init__()
        self.name, self.settings = name, {"tap": tap}
        self.layers = layers
        self.tap, self.channels, self.factor = tap, _CHANNELS[tap[4]], 2 ** (int(tap[4]) - 1)
        self.requires_grad_(False)

    def forward(self, pictures: Tensor) -> Tensor:
        features: Tensor = self.layers(pictures, (self.tap,))[self.tap]
        return features * _SCALE


def build(recipe: dict[str, Any]) -> Encoder:
    """The encoder that a model file describes, {"name": "lite", "tap": "relu3_1"}, with random weights.

    Raises:
        UsageError: no such encoder, or a layer that it does not have.
    """
    name, tap = str(recipe.get("name")), str(recipe.get("tap"))
    _check(name, tap)
    return Encoder(vgg.VGG19Net(taps=[tap]) if name == "vgg19" else lite.LiteNet(deepest=tap), name=name, tap=tap)


def pretrained(
    name: str,
    *,
    tap: str = "relu3_1",
    weights: str | Path | None = None,
    on_progress: Callable[[DownloadProgress], None] | None = None,
) -> Encoder:
    """An encoder with its weights.

    Args:
        name: "lite", which fst carries, or "vgg19", which is found or downloaded.
        tap: the layer.
        weights, on_progress: see fst.perceptual.vgg.VGG19 and fst.perceptual.lite.Lite.

    Raises:
        UsageError: no such encoder, or a layer that it does not have, or that is no good for painting.
        FstError: no weights, or damaged ones.
    """
    _check(name, tap)
    full: nn.Module
    if name == "vgg19":
        full = vgg.VGG19(taps=[tap], weights=weights, on_progress=on_progress)
    else:
        full = lite.Lite(taps=[tap], weights=weights, on_progress=on_progress)
    made = build({"name": name, "tap": tap})
    wanted = made.layers.state_dict()
    made.layers.load_state_dict({key: value for key, value in full.state_dict().items() if key in wanted})
    return made


def _check(name: str, tap: str) -> None:
    if name not in _KINDS:
        raise UsageError(f"no encoder is called {name!r}: {nearest(name, _KINDS)}")
    _KINDS[name].check_taps([tap])
    if tap[4] not in "34":
        raise UsageError(f"an encoder of {tap} cannot be painted from: choose a layer of block 3 or 4, as relu3_1")

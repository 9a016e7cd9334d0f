"""How far a picture is from what is wanted of it. Every function takes features or pictures, never an extractor.

Each term is divided by the size of its own target, photo by photo, so that a weight means the same for every style,
layer set and extractor: a content loss of 1 is as wrong as no features at all, a style loss of 1 as wrong as no texture
at all.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fst.errors import UsageError
from fst.feature_stats import gram

Features = Mapping[str, Tensor]
_TINY = 1e-12  # keeps a black photo or a flat style from dividing by zero; far below any real target


def _relative_error(value: Tensor, target: Tensor) -> Tensor:
    """Mean square of the error over mean square of the target, row by row: (B, ...), (B or 1, ...) -> (B,) float32."""
    value, target = value.float().flatten(1), target.float().flatten(1)
    return (value - target).square().mean(1) / (target.square().mean(1) + _TINY)


def content_loss(features: Features, target: Features, layers: Mapping[str, float]) -> Tensor:
    """How much of the photo's content is lost, photo by photo: (B,) float32, 0 for the photo itself.

    Johnson et al. 2016, section 3.2, "feature reconstruction loss", divided by the mean square of the photo's own
    features and averaged over `layers` by their weights.
    """
    return _weighted({name: _relative_error(features[name], target[name]) for name in layers}, layers)


def style_loss(features: Features, target_grams: Features, layers: Mapping[str, float]) -> Tensor:
    """How far the textures are from the style's, photo by photo: (B,) float32.

    Gatys et al. 2016, section 2.2: squared distance of Gram matrices, divided by the mean square of the style's and
    averaged over `layers` by their weights. `target_grams` holds (1 or B, C, C) matrices.
    """
    return _weighted({name: _relative_error(gram(features[name]), target_grams[name]) for name in layers}, layers)


def roughness(pictures: Tensor) -> Tensor:
    """Mean squared difference of vertical neighbours plus that of horizontal ones: (B, 3, H, W) -> (B,) float32.

    The anisotropic, squared total variation of Johnson et al. 2016, section 3.2, per pair of pixels; H, W >= 2.
    """
    pictures = pictures.float()
    down = (pictures[..., 1:, :] - pictures[..., :-1, :]).square().mean((1, 2, 3))
    right = (pictures[..., :, 1:] - pictures[..., :, :-1]).square().mean((1, 2, 3))
    return down + right


def total_variation_loss(pictures: Tensor, target_roughness: Tensor) -> Tensor:
    """Roughness in units of the style picture's own: (B, 3, H, W), (1 or B,) -> (B,) float32, 1 when as rough."""
    return roughness(pictures) / (target_roughness + _TINY)


def _weighted(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    total = sum(weights.values())
    return torch.stack([terms[name] * (weight / total) for name, weight in weights.items()]).sum(0)


def _is_weight(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < math.inf


class StyleTarget(NamedTuple):
    """What a style asks for: its Gram matrices (1, C, C) by layer, and the roughness (1,) of its picture."""

    grams: dict[str, Tensor]
    roughness: Tensor


def style_target(pictures: Sequence[Tensor], features: Sequence[Features], layers: Mapping[str, float]) -> StyleTarget:
    """The target of one style from its picture at one or several scales, each (1, 3, h, w) with its features.

    Several scales are averaged: the squared distance to the mean Gram matrix differs from the mean of the squared
    distances by a constant only.
    """
    grams = {name: torch.stack([gram(scale[name]) for scale in features]).mean(0) for name in layers}
    return StyleTarget(grams, torch.stack([roughness(picture) for picture in pictures]).mean(0))


def mixed_target(targets: StyleTarget, shares: Tensor) -> StyleTarget:
    """A target for each photo, mixed of N: grams (N, C, C) and roughness (N,), shares (B, N) -> (B, C, C) and (B,)."""
    with torch.autocast(shares.device.type, enabled=False):
        grams = {name: (shares @ gram.flatten(1)).view(-1, *gram.shape[1:]) for name, gram in targets.grams.items()}
        return StyleTarget(grams, shares @ targets.roughness)


def weaker_target(target: StyleTarget, photo_features: Features, strength: Tensor) -> StyleTarget:
    """What a style asks for at a strength (B,): Gram matrices on the straight way from the photo's own, 0, to its, 1.

    Babaeizadeh & Ghiasi 2018, section 3, lower the style's weight instead; between targets, equal steps of strength are
    equal steps of the Gram matrix, whatever the weight is.
    """
    share = strength.view(-1, 1, 1)
    grams = {name: torch.lerp(gram(photo_features[name]), style, share) for name, style in target.grams.items()}
    return target._replace(grams=grams)


class Terms(NamedTuple):
    """The terms of the loss, unweighted, and their weighted sum: scalars, or (B,) photo by photo."""

    content: Tensor
    style: Tensor
    tv: Tensor
    total: Tensor

    def mean(self) -> "Terms":
        """The terms averaged over the batch."""
        return Terms(*(term.mean() for term in self))


class PerceptualLoss:
    """Content, style and total variation with their layers and weights.

    Args:
        style_layers: weight of each layer in the style term; the weights are relative, their sum does not matter.
        content_layers: the same for the content term.
        content_weight, style_weight, tv_weight: weight of each term in the total.

    Raises:
        UsageError: no layer, or a weight that is negative or no number.
    """

    def __init__(
        self,
        *,
        style_layers: Mapping[str, float],
        content_layers: Mapping[str, float],
        content_weight: float = 0.1,
        style_weight: float = 1.0,
        tv_weight: float = 0.0,
    ) -> None:
        for what, layers in (("style_layers", style_layers), ("content_layers", content_layers)):
            if not all(map(_is_weight, layers.values())) or not any(layers.values()):
                raise UsageError(f"loss.{what} needs a layer of weight above 0, and none below, not {dict(layers)}")
        for what, weight in (("content", content_weight), ("style", style_weight), ("tv", tv_weight)):
            if not _is_weight(weight):
                raise UsageError(f"loss.{what}_weight must be a number of 0 or more, not {weight!r}")
        self.style_layers, self.content_layers = dict(style_layers), dict(content_layers)
        self.content_weight, self.style_weight, self.tv_weight = content_weight, style_weight, tv_weight

    def __call__(self, pictures: Tensor, features: Features, photo_features: Features, target: StyleTarget) -> Terms:
        """Score (B, 3, H, W) pictures by their features, those of their photos, and the style: Terms of (B,) each."""
        content = content_loss(features, photo_features, self.content_layers)
        style = style_loss(features, target.grams, self.style_layers)
        tv = total_variation_loss(pictures, target.roughness)
        total = self.content_weight * content + self.style_weight * style + self.tv_weight * tv
        return Terms(content, style, tv, total)

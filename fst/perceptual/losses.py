"""How far a picture is from what is wanted of it. Every function takes features or pictures, never an extractor.

Each term is divided by the size of its own target, photo by photo, so that a weight means the same for every style,
layer set and extractor: a content loss of 1 is as wrong as no features at all, a style loss of 1 as wrong as no texture
at all.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fst.errors import UsageError, nearest
from fst.feature_stats import gram, symmetric_root

Features = Mapping[str, Tensor]
_LEAST_VARIANCE = 1e-7  # of a layer's sum of squares: what float32 can tell from 0
_TINY = 1e-12  # keeps a black photo or a flat style from dividing by zero; far below any real target


def _relative_error(value: Tensor, target: Tensor) -> Tensor:
    """Mean square of the error over mean square of the target, row by row: (B, ...), (B or 1, ...) -> (B,) float32."""
    value, target = (each.movedim(1, -1).flatten(1).float() for each in (value, target))  # features lie like that
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


def moments_loss(features: Features, target: "StyleTarget", layers: Mapping[str, float]) -> Tensor:
    """How far each channel's mean and standard deviation are from the style's, photo by photo: (B,) float32.

    Li et al. 2017, "Demystifying Neural Style Transfer", section 4.2 (also Huang & Belongie 2017, equation 13): squared
    distances, divided by the style's squared means and deviations, averaged over `layers` by their weights.
    """
    return _weighted({name: _moments_error(features[name], target, name) for name in layers}, layers)


def wasserstein_loss(features: Features, target: "StyleTarget", layers: Mapping[str, float]) -> Tensor:
    """Squared 2-Wasserstein distance of the features to the style's, both taken for Gaussian, photo by photo: (B,).

    |μ − μ_s|² + tr(Σ + Σ_s − 2 (Σ_s^½ Σ Σ_s^½)^½) (Olkin & Pukelsheim 1982), divided by |μ_s|² + tr Σ_s, float32,
    averaged over `layers` by their weights. As a style loss: Vacher et al. 2020, "Texture Interpolation for Probing
    Visual Perception", section 2.
    """
    return _weighted({name: _wasserstein(features[name], target, name) for name in layers}, layers)


def _moments_error(features: Tensor, target: "StyleTarget", layer: str) -> Tensor:
    (mean, variance), (mean_s, variance_s) = (
        (mean, covariance.diagonal(dim1=1, dim2=2))
        for mean, covariance in (_gaussian(features), _gaussian_of(target.grams[layer], target.means[layer]))
    )
    size = mean_s.square().sum(1) + variance_s.sum(1)
    least = _LEAST_VARIANCE * size[:, None] + _TINY  # where a channel is dead, a root has no slope
    deviation, deviation_s = ((v.clamp(min=0) + least).sqrt() for v in (variance, variance_s))
    return ((mean - mean_s).square().sum(1) + (deviation - deviation_s).square().sum(1)) / (size + _TINY)


def _wasserstein(features: Tensor, target: "StyleTarget", layer: str) -> Tensor:
    mean, covariance = _gaussian(features)
    mean_s, covariance_s = _gaussian_of(target.grams[layer], target.means[layer])
    traces, traces_s = (c.diagonal(dim1=1, dim2=2).sum(1) for c in (covariance, covariance_s))
    overlap = _trace_of_root(covariance, covariance_s)
    distance = (mean - mean_s).square().sum(1) + traces + traces_s - 2 * overlap
    return distance.clamp(min=0) / (mean_s.square().sum(1) + traces_s + _TINY)


def _trace_of_root(covariance: Tensor, target: Tensor) -> Tensor:
    """tr((T^½ S T^½)^½), (B, C, C) and (1 or B, C, C) -> (B,) float32, with gradients to the first.

    By eigenvalues in float64 on the processor: they span the square of what Σ spans, more than float32 holds, and GPUs
    are no faster at such small matrices. The root's slope at an eigenvalue of 0, as every picture of fewer pixels than
    channels has, is kept finite.
    """
    wide, wide_s = (c.to("cpu", torch.float64) for c in (covariance, target))
    root = symmetric_root(wide_s)
    product = root @ wide @ root
    least = (_LEAST_VARIANCE * wide_s.diagonal(dim1=1, dim2=2).sum(1, keepdim=True)).square() + _TINY**2
    values: Tensor = torch.linalg.eigvalsh((product + product.mT) / 2).clamp(min=0)
    return ((values + least).sqrt() - least.sqrt()).sum(1).to(covariance)


def _gaussian(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (B, C) and covariance (B, C, C) of feature maps (B, C, H, W), float32."""
    return _gaussian_of(gram(features), _mean(features))


def _gaussian_of(grams: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance from Gram matrices (B, C, C), which are second moments over C, and means (B, C)."""
    return means, grams * means.shape[1] - means[:, :, None] * means[:, None, :]


def _mean(features: Tensor) -> Tensor:
    return features.mean((2, 3), dtype=torch.float32)


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


def diversity_loss(pictures: Tensor, others: Tensor, wanted: Tensor) -> Tensor:
    """How much of a wanted difference two ways to paint a photo lack: (B, 3, H, W) twice, (1 or B,) -> (B,) float32.

    The difference is the mean absolute one of pixels in [0, 1]. 1 where the pictures are the same, 0 where they differ
    as much as is `wanted` or more; squared between, as the other terms are. Li et al. 2017, "Diversified Texture
    Synthesis with Feed-forward Networks", section 3.2, compare features at relu4_2 of pictures of two noises, without
    an end: what is bounded cannot outgrow the other terms.
    """
    difference = (pictures.float() - others.float()).abs().mean((1, 2, 3))
    return ((wanted - difference).clamp(min=0) / (wanted + _TINY)).square()


def _weighted(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    total = sum(weights.values())
    return torch.stack([terms[name] * (weight / total) for name, weight in weights.items()]).sum(0)


def _is_weight(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < math.inf


class StyleTarget(NamedTuple):
    """What a style asks for: Gram matrices (1, C, C) by layer, roughness (1,) of its picture, means (1, C) by layer."""

    grams: dict[str, Tensor]
    roughness: Tensor
    means: dict[str, Tensor]


def style_targets(pictures: Tensor, features: Features, layers: Mapping[str, float]) -> StyleTarget:
    """The targets of N styles, stacked, from their pictures (N, 3, h, w) and the features of these."""
    grams, means = ({name: of(features[name]) for name in layers} for of in (gram, _mean))
    return StyleTarget(grams, roughness(pictures), means)


def style_target(pictures: Sequence[Tensor], features: Sequence[Features], layers: Mapping[str, float]) -> StyleTarget:
    """The target of one style from its picture at one or several scales, each (1, 3, h, w) with its features.

    Several scales are averaged: the squared distance to the mean Gram matrix differs from the mean of the squared
    distances by a constant only.
    """
    targets = [style_targets(picture, scale, layers) for picture, scale in zip(pictures, features, strict=True)]
    stacked = stack_targets(targets)
    return mix_targets(stacked, torch.full((1, len(targets)), 1 / len(targets), device=stacked.roughness.device))


def stack_targets(targets: Sequence[StyleTarget]) -> StyleTarget:
    """N targets as one: grams (N, C, C) and means (N, C) by layer, roughness (N,)."""
    return StyleTarget(
        {name: torch.cat([target.grams[name] for target in targets]) for name in targets[0].grams},
        torch.cat([target.roughness for target in targets]),
        {name: torch.cat([target.means[name] for target in targets]) for name in targets[0].means},
    )


def mix_targets(targets: StyleTarget, shares: Tensor) -> StyleTarget:
    """A target for each photo, of N stacked ones: shares (B, N), rows that sum to 1 -> B stacked ones.

    What a picture asks for of which each style covers a part as large as its share.
    """
    with torch.autocast(shares.device.type, enabled=False):
        return StyleTarget(
            {name: (shares @ grams.flatten(1)).view(-1, *grams.shape[1:]) for name, grams in targets.grams.items()},
            shares @ targets.roughness,
            {name: shares @ means for name, means in targets.means.items()},
        )


def weaker_target(target: StyleTarget, photo_features: Features, strength: Tensor) -> StyleTarget:
    """What a style asks for at a strength (B,): statistics on the straight way from the photo's own, 0, to its, 1.

    Babaeizadeh & Ghiasi 2018, section 3, lower the style's weight instead; between targets, equal steps of strength are
    equal steps of the Gram matrix, whatever the weight is.
    """
    share = strength.view(-1, 1, 1)
    grams = {name: torch.lerp(gram(photo_features[name]), style, share) for name, style in target.grams.items()}
    means = {
        name: torch.lerp(_mean(photo_features[name]), style, share[..., 0]) for name, style in target.means.items()
    }
    return target._replace(grams=grams, means=means)


class Terms(NamedTuple):
    """The terms of the loss, unweighted, and their weighted sum: scalars, or (B,) photo by photo."""

    content: Tensor
    style: Tensor
    tv: Tensor
    total: Tensor

    def mean(self) -> "Terms":
        """The terms averaged over the batch."""
        return Terms(*(term.mean() for term in self))


STYLE_DISTANCES: Mapping[str, Callable[[Features, StyleTarget, Mapping[str, float]], Tensor]] = {
    "gram": lambda features, target, layers: style_loss(features, target.grams, layers),
    "moments": moments_loss,
    "wasserstein": wasserstein_loss,
}


class PerceptualLoss:
    """Content, style and total variation with their layers and weights.

    Args:
        style_layers: weight of each layer in the style term; the weights are relative, their sum does not matter.
        content_layers: the same for the content term.
        content_weight, style_weight, tv_weight: weight of each term in the total.
        style_distances: what the style term is made of, and the weight of each, relative like those of the layers:
            "gram" (`style_loss`), "moments" (`moments_loss`), "wasserstein" (`wasserstein_loss`); only Gram matrices
            when None.

    Raises:
        UsageError: no layer, an unknown distance, or a weight that is negative or no number.
    """

    def __init__(
        self,
        *,
        style_layers: Mapping[str, float],
        content_layers: Mapping[str, float],
        content_weight: float = 0.1,
        style_weight: float = 1.0,
        tv_weight: float = 0.0,
        style_distances: Mapping[str, float] | None = None,
    ) -> None:
        distances = {"gram": 1.0} if style_distances is None else style_distances
        for name in distances:
            if name not in STYLE_DISTANCES:
                raise UsageError(f"loss.style_distances has no {name!r}: {nearest(name, STYLE_DISTANCES)}")
        for what, layers in (
            ("style_layers", style_layers),
            ("content_layers", content_layers),
            ("style_distances", distances),
        ):
            if not all(map(_is_weight, layers.values())) or not any(layers.values()):
                raise UsageError(f"loss.{what} needs one of weight above 0, and none below, not {dict(layers)}")
        for what, weight in (("content", content_weight), ("style", style_weight), ("tv", tv_weight)):
            if not _is_weight(weight):
                raise UsageError(f"loss.{what}_weight must be a number of 0 or more, not {weight!r}")
        self.style_layers, self.content_layers = dict(style_layers), dict(content_layers)
        self.style_distances = {name: weight for name, weight in distances.items() if weight}
        self.content_weight, self.style_weight, self.tv_weight = content_weight, style_weight, tv_weight

    def __call__(self, pictures: Tensor, features: Features, photo_features: Features, target: StyleTarget) -> Terms:
        """Score (B, 3, H, W) pictures by their features, those of their photos, and the style: Terms of (B,) each."""
        content = content_loss(features, photo_features, self.content_layers)
        distances = {n: STYLE_DISTANCES[n](features, target, self.style_layers) for n in self.style_distances}
        style = _weighted(distances, self.style_distances)
        tv = total_variation_loss(pictures, target.roughness)
        total = self.content_weight * content + self.style_weight * style + self.tv_weight * tv
        return Terms(content, style, tv, total)

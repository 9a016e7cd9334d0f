"""How good a repainting is: the losses of training, likeness to the photo, and how much several of them differ."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Literal

import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

from fst.download import DownloadProgress
from fst.errors import UsageError
from fst.paths import carried
from fst.perceptual.lite import Lite
from fst.perceptual.losses import (
    Features,
    PerceptualLoss,
    StyleTarget,
    mix_targets,
    stack_targets,
    style_loss,
    style_target,
)
from fst.perceptual.vgg import VGG19, find_local_weights
from fst.training.overrides import layers

_WINDOW_PX, _SIGMA = 11, 1.5
_LUMA = (0.299, 0.587, 0.114)
_TINY = 1e-12  # of two features that are silent


def ssim(pictures: Tensor, photos: Tensor) -> Tensor:
    """Structural similarity of luma, pair by pair: (B, 3, H, W) RGB in [0, 1] twice, H, W >= 11 -> (B,), 1 when equal.

    Wang et al. 2004, "Image Quality Assessment: From Error Visibility to Structural Similarity", sections III.B and
    III.C: a Gaussian window of 11x11 and sigma 1.5, K = (0.01, 0.03), averaged over the windows that lie inside. In
    float64: variances are differences of large numbers. Departure: large pictures are not made smaller first.
    """
    offsets = torch.arange(_WINDOW_PX, dtype=torch.float64, device=pictures.device) - _WINDOW_PX // 2
    weights = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    weights = weights / weights.sum()

    def local_mean(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))

    luma = torch.tensor(_LUMA, dtype=torch.float64, device=pictures.device).view(1, 3, 1, 1)
    x, y = ((each.double() * luma).sum(1, keepdim=True) for each in (pictures, photos))
    mean_x, mean_y = local_mean(x), local_mean(y)
    variances = local_mean(x * x) - mean_x**2 + local_mean(y * y) - mean_y**2
    covariance = local_mean(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    same = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1) * (2 * covariance + c2) / (variances + c2)
    return same.mean((1, 2, 3))


def pixel_distance(pictures: Tensor) -> float:
    """Mean absolute difference of RGB in [0, 1] over all pairs of (N, 3, H, W) pictures, N >= 2.

    The pixel distance by which diverse style transfer is compared: Wang et al. 2020, "Diversified Arbitrary Style
    Transfer via Deep Feature Perturbation".
    """
    return _over_pairs(len(pictures), lambda a, b: (pictures[a] - pictures[b]).abs().mean())


def perceptual_distance(features: Features, taps: Sequence[str]) -> float:
    """How differently N >= 2 pictures are seen: mean over all pairs and `taps`, from features (N, C, h, w) by tap.

    Of a pair, mean((a - b)^2) / (mean(a^2) + mean(b^2)): 0 for the same features; 1, the most that features after ReLU
    can have, where none of them is found at the same place in both.
    """

    def distance(maps: Tensor, a: int, b: int) -> Tensor:
        sizes = maps[a].square().mean() + maps[b].square().mean()
        return (maps[a] - maps[b]).square().mean() / (sizes + _TINY)

    def mean_over_taps(a: int, b: int) -> Tensor:
        return torch.stack([distance(features[tap], a, b) for tap in taps]).mean()

    return _over_pairs(len(features[taps[0]]), mean_over_taps)


def _over_pairs(count: int, distance: Callable[[int, int], Tensor]) -> float:
    return float(torch.stack([distance(a, b) for a, b in combinations(range(count), 2)]).mean())


def default_loss() -> PerceptualLoss:
    """The loss of conf/loss/default.yaml, by which every network is scored, whatever it was trained with."""
    keys = yaml.safe_load((carried("conf") / "loss" / "default.yaml").read_text(encoding="utf-8"))
    del keys["_target_"]
    for name in ("style_layers", "content_layers"):
        keys[name] = layers(keys[name], name)
    return PerceptualLoss(**keys)


class Judge:
    """The default loss with the network that looks at the pictures.

    Args:
        perceptual: "vgg19" (its weights are fetched where they are not here) or "lite"; None takes VGG-19 where its
            weights are here, else lite.
        on_transfer: told how a download goes.
        padding: what VGG-19 sees beyond the border: "replicate", as in training, or "zeros", as in other projects'
            numbers. lite has a border of its own, and no choice.

    Raises:
        UsageError: zeros for lite.
    """

    def __init__(
        self,
        perceptual: Literal["vgg19", "lite"] | None = None,
        on_transfer: Callable[[DownloadProgress], None] | None = None,
        *,
        padding: Literal["replicate", "zeros"] = "replicate",
    ) -> None:
        self.loss = default_loss()
        self.taps = tuple(dict.fromkeys((*self.loss.style_layers, *self.loss.content_layers)))
        self.name = perceptual or ("lite" if find_local_weights() is None else "vgg19")
        self.padding = padding if self.name == "vgg19" else None
        self.extractor: nn.Module
        if self.name == "vgg19":
            vgg = VGG19(taps=self.taps, padding=padding, on_progress=on_transfer)
            self.extractor, self.weights_sha256 = vgg, vgg.weights_sha256
            border = ", with zeros beyond the border" if padding == "zeros" else ""
            self.says = f"seen by VGG-19 ({vgg.weights_path.name}){border}"
        elif padding == "zeros":
            raise UsageError("padding with zeros is for VGG-19, and lite is to look here: take --perceptual vgg19")
        else:
            lite = Lite(taps=self.taps)
            self.extractor, self.weights_sha256 = lite, lite.weights_sha256
            why = "as asked for" if perceptual else "as VGG-19's weights are not here"
            self.says = f"seen by lite, fst's small stand-in for VGG-19, {why}: compare its numbers with its own only"

    @torch.no_grad()
    def target(self, pictures: Sequence[Tensor], shares: Sequence[float]) -> StyleTarget:
        """What a style asks for, from pictures (1, 3, h, w) and the share of each; shares sum to 1."""
        wanted = self.loss.style_layers
        found = [style_target([picture], [self.extractor(picture, wanted)], wanted) for picture in pictures]
        return mix_targets(stack_targets(found), torch.tensor([list(shares)], dtype=torch.float32))

    @torch.no_grad()
    def score(self, photo: Tensor, pictures: Tensor, target: StyleTarget) -> dict[str, float]:
        """Scores of N repaintings (N, 3, H, W) of a photo (1, 3, H, W), RGB in [0, 1]; means where N > 1.

        "content", "style", "tv" and "total" as in training; "photo_style", the style loss of the photo itself, and
        "style_share", what is left of it; "ssim" of luma to the photo; and where N > 1, "pixel_distance" and
        "perceptual_distance" over all pairs.
        """
        of_photo = self.extractor(photo, self.taps)
        seen = [self.extractor(picture[None], self.taps) for picture in pictures]  # one by one: memory
        features = {tap: torch.cat([each[tap] for each in seen]) for tap in self.taps}
        many = {tap: of_photo[tap].expand_as(features[tap]) for tap in self.taps}
        terms = self.loss(pictures, features, many, target)
        scores: dict[str, float] = {name: float(term.mean()) for name, term in terms._asdict().items()}
        scores["photo_style"] = float(style_loss(of_photo, target.grams, self.loss.style_layers))
        scores["style_share"] = scores["style"] / max(scores["photo_style"], _TINY)
        scores["ssim"] = float(ssim(pictures, photo.expand_as(pictures)).mean())
        if len(pictures) > 1:
            scores["pixel_distance"] = pixel_distance(pictures)
            scores["perceptual_distance"] = perceptual_distance(features, self.taps)
        return scores

    def described(self) -> Mapping[str, str | None]:
        """Which network looks, for a file of results; "padding" is None for lite, which has no choice."""
        weights = {"weights_sha256": self.weights_sha256}
        return {"name": self.name, "padding": self.padding, **weights, "says": self.says}

"""One picture at a time, by gradient descent on its pixels (Gatys, Ecker & Bethge 2016), from coarse to fine."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fst.errors import FstError, UsageError
from fst.optimize.descent import LBFGS, Adam
from fst.perceptual.losses import Features, PerceptualLoss, Terms, mix_targets, stack_targets, style_target

SMALLEST_PX = 16
_ZOOM = math.sqrt(2)  # from one scale to the next
_LAST_SHARE = 2 / 3  # of the iterations is done at full size


@dataclass(frozen=True)
class Iterate:
    """Where the picture stands. What `picture` and `result` give is of the moment in which they are called.

    Args:
        scale, scales: which of how many sizes, from 1.
        step, steps: evaluations of the loss so far and in all, over all sizes.
        size: (height, width) of this scale.
        terms: loss of `picture` by name: "content", "style" and "tv" unweighted, and "total".
        least: the terms of least total at this scale.
        seconds: since the beginning.
        picture: gives a copy of the picture that was evaluated, (1, 3, height, width) RGB in [0, 1].
        result: gives a copy of the best picture of this size, or of the average iterate where that was asked for.
    """

    scale: int
    scales: int
    step: int
    steps: int
    size: tuple[int, int]
    terms: dict[str, float]
    least: dict[str, float]
    seconds: float
    picture: Callable[[], Tensor] = field(repr=False)
    result: Callable[[], Tensor] = field(repr=False)


def optimize(
    content: Tensor,
    styles: Sequence[Tensor],
    extractor: nn.Module,
    loss: PerceptualLoss,
    *,
    iterations: int = 300,
    style_weights: Sequence[float] | None = None,
    style_scale: float = 1.0,
    start_size: int = 128,
    init: Tensor | Literal["content", "noise"] = "content",
    optimizer: Literal["lbfgs", "adam"] = "lbfgs",
    average: float = 0.0,
    bfloat16: bool = False,
    max_seconds: float | None = None,
    seed: int = 0,
) -> Iterator[Iterate]:
    """Paint `content` in the manner of `styles`: an Iterate after every evaluation of the loss.

    The last Iterate is of the full size; its `result()` is the picture. As a yardstick of other methods, take one
    scale, `start_size=max(content.shape)`: then `terms` of all Iterates are of one size, the first that of `content`
    itself, and an iteration is what the literature calls one.

    Gatys et al. 2016, section 2.3, with the normalised losses of fst.perceptual.losses. Coarse to fine: Gatys et al.
    2017, "Controlling Perceptual Factors in Neural Style Transfer", section 6; the sizes are sqrt(2) apart, each begins
    with the picture of the last, and the styles grow with the picture.

    Args:
        content: (1, 3, H, W) float32 RGB in [0, 1], on the device that is to work; the result has its size.
        styles: (1, 3, h, w) each, of any size.
        extractor: frozen; extractor(pictures, taps) gives the features by tap (fst.perceptual.vgg.VGG19).
        loss: layers and weights.
        iterations: evaluations of loss and gradient in all: two thirds at full size, the rest shared by smaller ones.
        style_weights: of several styles, the share of each; equal when None.
        style_scale: longest side at which a style is seen, over that of the picture; a style is never enlarged.
        start_size: longest side of the first scale, at least; no less than the picture's for a single scale.
        init: what the first scale starts from; a picture is brought to its size.
        optimizer: "lbfgs", or "adam" with a learning rate of 0.03.
        average: decay of the average over the iterates of a scale, in [0, 1), without the bias of its beginning
            (Kingma & Ba 2015, section 3); the average is then the result. 0 takes the best iterate.
        bfloat16: let the extractor compute in bfloat16; the losses stay float32.
        max_seconds: end after about so long. A scale may take its share, by iterations and pixels, so that the full
            size is reached, and makes one iteration at least.
        seed: of the noise.

    Raises:
        UsageError: a picture below 16 pixels, or an argument out of its range.
        FstError: the loss is not finite.
    """
    started = time.perf_counter()
    style_weights = [1.0] * len(styles) if style_weights is None else style_weights
    _check(content, styles, iterations, style_weights, style_scale, average)
    sizes = scales(content.shape[-2:], start_size)[-iterations:]
    steps = _shares(iterations, len(sizes))
    costs = [step * height * width for step, (height, width) in zip(steps, sizes, strict=True)]
    picture = _start(content, init, sizes[0], seed)
    step = 0
    for scale, size in enumerate(sizes, 1):
        deadline = None if max_seconds is None else started + max_seconds * sum(costs[:scale]) / sum(costs)
        seen = [_resized(style, seen_size(style.shape[-2:], style_scale * max(size))).to(content) for style in styles]
        run = _Scale(extractor, loss, _resized(content, size), seen, style_weights)
        pixels = _resized(picture, size).permute(0, 2, 3, 1).reshape(-1)
        descent = LBFGS() if optimizer == "lbfgs" else Adam()
        kept = _Kept(average)
        for left in reversed(range(steps[scale - 1])):
            step += 1
            terms, gradient = run.evaluate(pixels, bfloat16=bfloat16)
            if not math.isfinite(terms["total"]):
                raise FstError(
                    f"the loss is {terms['total']} at iteration {step}: make its weights smaller, or look at the file"
                    " of VGG-19's weights"
                )
            kept.take(pixels, terms)
            now = time.perf_counter()
            yield Iterate(
                scale,
                len(sizes),
                step,
                iterations,
                size,
                terms,
                kept.least,
                now - started,
                lambda run=run, pixels=pixels: run.picture(pixels).clone(),  # type: ignore[misc]
                lambda run=run, kept=kept: run.picture(kept.result()).clone(),  # type: ignore[misc]
            )
            if left == 0 or (deadline is not None and now >= deadline):
                break
            pixels = descent.step(pixels, terms["total"], gradient)
        picture = run.picture(kept.result())


def scales(size: Sequence[int], start_size: int) -> list[tuple[int, int]]:
    """The sizes (height, width) on the way to `size`, from longest sides of `start_size` on, sqrt(2) apart."""
    found = [(size[0], size[1])]
    for count in range(1, 64):
        height, width = (round(length / _ZOOM**count) for length in size)
        if max(height, width) < start_size or min(height, width) < SMALLEST_PX:
            break
        found.insert(0, (height, width))
    return found


def _check(
    content: Tensor,
    styles: Sequence[Tensor],
    iterations: int,
    style_weights: Sequence[float],
    style_scale: float,
    average: float,
) -> None:
    for what, picture in (("photo", content), *(("style", style) for style in styles)):
        if picture.ndim != 4 or picture.shape[:2] != (1, 3):
            raise UsageError(f"a {what} is (1, 3, height, width), not {tuple(picture.shape)}")
        height, width = picture.shape[-2:]
        if min(height, width) < SMALLEST_PX:
            raise UsageError(f"the {what} is {width}x{height} px: {SMALLEST_PX} at least are needed each way")
    if not styles:
        raise UsageError("no style picture was given")
    if len(style_weights) != len(styles):
        raise UsageError(f"{len(style_weights)} weights were given for {len(styles)} styles: give each style one")
    if not all(0 <= weight < math.inf for weight in style_weights) or not any(style_weights):
        raise UsageError(f"weights of styles are 0 or more, and one is above 0, not {list(style_weights)}")
    if iterations < 1:
        raise UsageError(f"iterations must be at least 1, not {iterations}")
    if not 0 < style_scale < math.inf:
        raise UsageError(f"the scale of the style must be above 0, not {style_scale}")
    if not 0 <= average < 1:
        raise UsageError(f"the decay of the average goes from 0 to below 1, not {average}")


def _shares(iterations: int, count: int) -> list[int]:
    """How many iterations each of `count` scales gets, one at least; they sum to `iterations`."""
    before = max(1, round(iterations * (1 - _LAST_SHARE) / (count - 1))) if count > 1 else 0
    return [before] * (count - 1) + [iterations - before * (count - 1)]


def _resized(picture: Tensor, size: Sequence[int]) -> Tensor:
    """(1, 3, H, W) -> (1, 3, *size) by an antialiased bicubic filter, within [0, 1]."""
    if tuple(picture.shape[-2:]) == tuple(size):
        return picture
    return F.interpolate(picture, tuple(size), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def _start(content: Tensor, init: Tensor | str, size: tuple[int, int], seed: int) -> Tensor:
    if isinstance(init, Tensor):
        return init.to(content)
    if init == "content":
        return content
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed)).to(content)


def seen_size(size: Sequence[int], longest: float) -> tuple[int, int]:
    """The size (height, width) at which a style is seen: reduced to a longest side, but to no side below 16 pixels."""
    factor = min(1.0, max(longest / max(size), SMALLEST_PX / min(size)))
    return round(factor * size[0]), round(factor * size[1])


class _Scale:
    """The loss at one size; features of the photo and of the styles are computed once, in float32."""

    def __init__(
        self,
        extractor: nn.Module,
        loss: PerceptualLoss,
        content: Tensor,
        styles: Sequence[Tensor],
        style_weights: Sequence[float],
    ) -> None:
        self.extractor, self.loss, self.size = extractor, loss, content.shape[-2:]
        layers = loss.style_layers
        with torch.no_grad(), torch.autocast(content.device.type, enabled=False):
            targets = [style_target([style], [extractor(style, layers)], layers) for style in styles]
            shares = torch.tensor([style_weights], dtype=torch.float32, device=content.device)
            self.target = mix_targets(stack_targets(targets), shares / shares.sum())
            self.photo_features: Features = extractor(content, tuple(loss.content_layers))

    def picture(self, pixels: Tensor) -> Tensor:
        """The flat pixels as (1, 3, H, W), in channels_last."""
        return pixels.view(1, *self.size, 3).permute(0, 3, 1, 2)

    def evaluate(self, pixels: Tensor, *, bfloat16: bool) -> tuple[dict[str, float], Tensor]:
        """The terms of the loss by name, and the total's gradient, flat like `pixels`."""
        leaf = pixels.detach().requires_grad_()
        picture = self.picture(leaf)
        with torch.autocast(leaf.device.type, torch.bfloat16, enabled=bfloat16):
            features = self.extractor(picture, (*self.loss.style_layers, *self.loss.content_layers))
            terms = self.loss(picture, features, self.photo_features, self.target)
        (gradient,) = torch.autograd.grad(terms.total.sum(), leaf)
        values = torch.cat([term.detach() for term in terms]).tolist()
        return dict(zip(Terms._fields, values, strict=True)), gradient


class _Kept:
    """What is handed on: the pixels of least loss, or the average over all."""

    def __init__(self, decay: float) -> None:
        self._decay, self._count = decay, 0
        self.least: dict[str, float] = {}
        self._average: Tensor | None = None

    def take(self, pixels: Tensor, terms: dict[str, float]) -> None:
        if self._count == 0 or terms["total"] < self.least["total"]:
            self.least, self._best = terms, pixels
        self._count += 1
        if self._decay:
            before = torch.zeros_like(pixels) if self._average is None else self._average
            self._average = before.lerp(pixels, 1 - self._decay)

    def result(self) -> Tensor:
        return self._best if self._average is None else self._average / (1 - self._decay**self._count)

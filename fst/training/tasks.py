"""What is learnt: the LightningModules. They bring network, perceptual network and losses together."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from fst import nets
from fst.errors import UsageError
from fst.feature_stats import random_rotations
from fst.perceptual.losses import (
    PerceptualLoss,
    StyleTarget,
    Terms,
    diversity_loss,
    mix_targets,
    stack_targets,
    style_target,
    style_targets,
    weaker_target,
)
from fst.training.style_pool import StylePool

_WATCHED, _WATCHED_PX = 3, 256  # style pictures that validation photos are painted with
DIFFERENCE = 0.15  # mean absolute one of two ways to paint a photo, in [0, 1]
_MOST_TURNED = 0.7  # share of a rotation
STROKES = (0.5, 0.5**0.5, 1.0, 2**0.5, 2.0)  # at which a style is seen where strokes are adjustable
_NEUTRAL = 0.75  # share of photos that are painted at full strength, and with strokes as they are
Inputs = Mapping[str, Tensor]


class Look(NamedTuple):
    """What validation photos are painted as: the network's inputs, (1,) or (1, K), and whether the losses count."""

    inputs: Inputs
    scored: bool = True


class StyleTask(pl.LightningModule, ABC):
    """A network learns to repaint photos. Sub-classes say what is asked of it, and score what it gives.

    Args:
        net: (B, 3, H, W) RGB in [0, 1], and its further inputs by keyword -> the same; see fst.nets.inputs_of.
        extractor: frozen; called as extractor(pictures, taps) it gives the features by tap.
        loss: which layers and weights.
        optimizer: makes the optimizer from the parameters.
        schedule: makes the learning-rate schedule from the optimizer and `max_steps`.
    """

    method: ClassVar[str]
    noise: ClassVar[int] = 0  # length of the network's input of this name; 0 where it needs none

    def __init__(
        self,
        *,
        net: nn.Module,
        extractor: nn.Module,
        loss: PerceptualLoss,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        schedule: Callable[..., LRScheduler],
    ) -> None:
        super().__init__()
        self.net = net.to(memory_format=torch.channels_last)
        self.extractor = extractor.to(memory_format=torch.channels_last)
        self.loss = loss
        self.make_optimizer, self.make_schedule = optimizer, schedule
        self.terms: dict[str, Tensor] = {}  # of the last step, averaged over this process's batch, on the device
        self.strict_loading = False  # the extractor's weights are not in the checkpoint

    def forward(self, photos: Tensor, **inputs: Tensor) -> Tensor:
        """Repaint (B, 3, H, W) photos."""
        restyled: Tensor = self.net(photos, **inputs)
        return restyled

    def draw(self, count: int, size: int) -> Inputs:
        """What is asked of the network for so many photos of this side in training; random, on the device."""
        return {}

    def looks(self) -> list[Look]:
        """How validation photos are painted."""
        return [Look({})]

    @abstractmethod
    def score(self, photos: Tensor, inputs: Inputs) -> tuple[Terms, Tensor]:
        """The loss terms picture by picture, each (B,), and the photos as they are repainted with `inputs`."""

    def judge(self, photos: Tensor) -> dict[str, Tensor]:
        """What a batch of photos teaches: the terms averaged over it, "total" among them."""
        return self.score(photos, self.draw(len(photos), photos.shape[-1]))[0].mean()._asdict()

    def training_step(self, photos: Tensor, batch_index: int) -> Tensor:
        """One batch of (B, 3, H, W) float32 photos in [0, 1]."""
        photos = photos.contiguous(memory_format=torch.channels_last)
        terms = self.judge(photos)
        self.terms = {name: term.detach() for name, term in terms.items()}
        return terms["total"]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Optimizer over what of the network is not frozen; the schedule advances with every step.

        Raises:
            UsageError: a setting that one of them refuses.
        """
        try:
            optimizer = self.make_optimizer(weight for weight in self.net.parameters() if weight.requires_grad)
            schedule = self.make_schedule(optimizer, max_steps=self.trainer.max_steps)
        except (TypeError, ValueError) as error:
            raise UsageError(f"optimizer or schedule: {error}") from error
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Everything but the frozen extractor, which comes from its own file."""
        state = super().state_dict(*args, **kwargs)
        return {name: value for name, value in state.items() if not name.startswith("extractor.")}


class PerStyleTask(StyleTask):
    """One network learns one style (Johnson et al. 2016, section 3).

    Where it has the inputs, three photos in four are painted at full strength and three in four with strokes as they
    are, as most will be in use, and the rest at any strength and stroke: see `weaker_target`, and STROKES for the sizes
    at which the style is seen.

    Args:
        style_pictures: for each style that is learnt, and each stroke of STROKES (without that input, of 1 alone), its
            picture at one or several sizes, each (1, 3, h, w) RGB in [0, 1].
        further: see StyleTask.
    """

    method = "perstyle"

    def __init__(self, *, style_pictures: Sequence[Sequence[Sequence[Tensor]]], **further: Any) -> None:
        super().__init__(**further)
        self.style_pictures = style_pictures
        self.adjustable = "stroke" in nets.inputs_of(self.net)
        self.targets: StyleTarget | None = None  # of every style at every stroke, in this order

    def on_fit_start(self) -> None:
        """Compute the styles' targets once, in float32 whatever the precision of the run."""
        layers, found = self.loss.style_layers, []
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            for sizes in (sizes for strokes in self.style_pictures for sizes in strokes):
                pictures = [picture.to(self.device) for picture in sizes]
                found.append(style_target(pictures, [self.extractor(p, layers) for p in pictures], layers))
        self.targets = stack_targets(found)
        self.octaves = torch.tensor(STROKES, device=self.device).log2()

    def draw(self, count: int, size: int) -> Inputs:
        if not self.adjustable:
            return {}
        strength = (torch.rand(count) / (1 - _NEUTRAL)).clamp(max=1)
        stroke = torch.where(torch.rand(count) < _NEUTRAL, 1.0, 4 ** (torch.rand(count) - 0.5))
        return {"strength": strength.to(self.device), "stroke": stroke.to(self.device)}

    def looks(self) -> list[Look]:
        """In full; then, where they can be had, at half strength, with small and with large strokes."""
        return [Look({}), *self._adjusted({})]

    def _adjusted(self, inputs: Inputs) -> list[Look]:
        wishes = (("strength", 0.5), ("stroke", 0.5), ("stroke", 2.0)) if self.adjustable else ()
        return [Look({**inputs, name: torch.tensor([value], device=self.device)}, False) for name, value in wishes]

    def score(self, photos: Tensor, inputs: Inputs) -> tuple[Terms, Tensor]:
        """See StyleTask. With n times as many rows of inputs as photos, all photos are painted n times over."""
        assert self.targets is not None, "on_fit_start has not run"
        strength = inputs.get("strength")
        taps = [*self.loss.content_layers, *(self.loss.style_layers if strength is not None else ())]
        with torch.no_grad():  # first, while there is nothing yet that backward needs: it keeps the peak of memory low
            photo_features = self.extractor(photos, taps)
            if (times := max(map(len, inputs.values()), default=1) // len(photos)) > 1:
                photos = photos.repeat(times, 1, 1, 1).contiguous(memory_format=torch.channels_last)
                photo_features = {name: each.repeat(times, 1, 1, 1) for name, each in photo_features.items()}
            target = self.targets
            if len(target.roughness) > 1:
                target = mix_targets(target, self.shares(inputs))
            if strength is not None:
                target = weaker_target(target, photo_features, strength)
        restyled: Tensor = self.net(photos, **inputs)
        features = self.extractor(restyled, (*self.loss.style_layers, *self.loss.content_layers))
        return self.loss(restyled, features, photo_features, target), restyled

    def shares(self, inputs: Inputs) -> Tensor:
        """How much of each target (style by style, stroke by stroke) `inputs` ask for: (1 or B, targets)."""
        one = torch.ones(1, device=self.device)
        if not self.adjustable:
            return one[:, None]
        between = torch.log2(inputs.get("stroke", one))[:, None] - self.octaves
        return (1 - 2 * between.abs()).clamp(min=0)  # STROKES lie half an octave apart


class DiverseTask(PerStyleTask):
    """One network learns many ways to paint a photo in one style, each called by a noise.

    After Ulyanov et al. 2017, "Improved Texture Networks", section 2.1, and Li et al. 2017, "Diversified Texture
    Synthesis with Feed-forward Networks", section 3.2. Every photo is painted twice, with two noises, and the two are
    driven apart until they differ by `DIFFERENCE` (see `diversity_loss`); at a lower strength by less, for there the
    picture is near to the photo.

    Args:
        diversity_weight: of that term; 0 leaves it to the network what it makes of the noise.
        further: see PerStyleTask.
    """

    method = "diverse"
    noise = 16

    def __init__(self, *, diversity_weight: float = 1.0, **further: Any) -> None:
        super().__init__(**further)
        if not isinstance(diversity_weight, int | float) or not 0 <= diversity_weight < math.inf:
            raise UsageError(f"method.diversity_weight must be a number of 0 or more, not {diversity_weight!r}")
        self.diversity_weight = diversity_weight

    def draw(self, count: int, size: int) -> Inputs:
        """For each photo twice: the same strength and stroke, and two noises."""
        twice = {name: value.repeat(2) for name, value in super().draw(count, size).items()}
        return {**twice, "noise": torch.randn(2 * count, self.noise).to(self.device)}

    def looks(self) -> list[Look]:
        """With no noise, as a photo is painted where nothing else is asked for; then with three."""
        noises = torch.randn(3, 1, self.noise, generator=torch.Generator().manual_seed(0)).to(self.device)
        return [Look({}), *(Look({"noise": noise}) for noise in noises), *self._adjusted({})]

    def judge(self, photos: Tensor) -> dict[str, Tensor]:
        inputs = self.draw(len(photos), photos.shape[-1])
        scored, painted = self.score(photos, inputs)
        strength = inputs.get("strength", torch.ones(1, device=self.device))[: len(photos)]
        one, other = painted.chunk(2)
        alike = diversity_loss(one, other, DIFFERENCE * strength).mean()
        terms = scored.mean()
        return {**terms._asdict(), "diversity": alike, "total": terms.total + self.diversity_weight * alike}


class MultiTask(PerStyleTask):
    """One network learns several styles, a style a photo (Dumoulin et al. 2017, section 2.2).

    `style_pictures` are those of the network's last styles; those before are not asked for, and stay as they are where
    the rest of the network is frozen.
    """

    method = "multi"

    def draw(self, count: int, size: int) -> Inputs:
        learnt = len(self.style_pictures)
        number = torch.randperm(learnt * -(-count // learnt))[:count] % learnt  # each as often as the others
        return {**super().draw(count, size), "styles": self._rows(number)}

    def looks(self) -> list[Look]:
        """Every style in full; then the first as a style alone would be."""
        rows = [{"styles": row[None]} for row in self._rows(torch.arange(len(self.style_pictures)))]
        return [*map(Look, rows), *self._adjusted(rows[0])]

    def shares(self, inputs: Inputs) -> Tensor:
        styles = inputs["styles"][:, -len(self.style_pictures) :, None]  # (B, S, 1)
        return (styles * super().shares(inputs)[:, None]).flatten(1)

    def _rows(self, number: Tensor) -> Tensor:
        """(N,) of the styles that are learnt -> (N, S), 1 for each of these and 0 for the others."""
        styles = len(nets.inputs_of(self.net)["styles"])  # type: ignore[arg-type]
        return torch.eye(styles)[number + styles - len(self.style_pictures)].to(self.device)


class AnyStyleTask(StyleTask):
    """One network learns to paint with any style, from many (Huang & Belongie 2017, section 5).

    Every photo is painted with a style of its own. Where the paper compares means and deviations, the loss here is that
    of all other methods. Half of the photos are painted at full strength, the rest at any. Where the network takes
    rotations, three photos in four have one, of up to `_MOST_TURNED`: the decoder learns to paint those features, too.

    Args:
        pool: the style pictures.
        further: see StyleTask.
    """

    method = "adain"

    def __init__(self, *, pool: StylePool, **further: Any) -> None:
        super().__init__(**further)
        self.pool = pool

    def forward(self, photos: Tensor, **inputs: Tensor) -> Tensor:
        """Repaint (B, 3, H, W) photos with `style_picture`, (1 or B, 3, h, w), in the place of its code."""
        told = dict(inputs)
        code = self.net.encode(told.pop("style_picture"))  # type: ignore[operator]
        restyled: Tensor = self.net(photos, style_code=code, **told)
        return restyled

    def draw(self, count: int, size: int) -> Inputs:
        strength = (2 * torch.rand(count)).clamp(max=1)
        drawn = {
            "style_picture": self.pool.draw(count, size).to(self.device, memory_format=torch.channels_last),
            "strength": strength.to(self.device),
        }
        if "rotation" in (inputs := nets.inputs_of(self.net)):
            share = torch.where(torch.rand(count) < 0.25, 0.0, _MOST_TURNED * torch.rand(count)).to(self.device)
            drawn["rotation"] = random_rotations(share, math.isqrt(int(inputs["rotation"]))).flatten(1)  # type: ignore[arg-type]
        return drawn

    def looks(self) -> list[Look]:
        """The pictures of the first places, and the first of them at half strength."""
        count = min(_WATCHED, len(self.pool.pictures))
        found = [self.pool.whole(number, _WATCHED_PX).to(self.device) for number in range(count)]
        half = {"style_picture": found[0], "strength": torch.tensor([0.5], device=self.device)}
        return [*(Look({"style_picture": picture}) for picture in found), Look(half, scored=False)]

    def score(self, photos: Tensor, inputs: Inputs) -> tuple[Terms, Tensor]:
        layers, strength = self.loss.style_layers, inputs.get("strength")
        taps = [*self.loss.content_layers, *(layers if strength is not None else ())]
        picture = inputs["style_picture"]
        with torch.no_grad():
            target = style_targets(picture, self.extractor(picture, layers), layers)
            photo_features = self.extractor(photos, taps)
            if strength is not None:
                target = weaker_target(target, photo_features, strength)
        restyled = self(photos, **inputs)
        features = self.extractor(restyled, (*layers, *self.loss.content_layers))
        return self.loss(restyled, features, photo_features, target), restyled

"""What is learnt: the LightningModules. They bring network, perceptual network and losses together."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from fst.errors import UsageError
from fst.perceptual.losses import PerceptualLoss, StyleTarget, Terms, style_target


class PerStyleTask(pl.LightningModule):
    """One network learns one style (Johnson et al. 2016, section 3).

    Args:
        net: (B, 3, H, W) RGB in [0, 1] -> the same.
        extractor: frozen; called as extractor(pictures, taps) it gives the features by tap.
        loss: which layers and weights.
        style_pictures: the style at one or several sizes, each (1, 3, h, w) RGB in [0, 1].
        optimizer: makes the optimizer from the parameters.
        schedule: makes the learning-rate schedule from the optimizer and `max_steps`.
    """

    def __init__(
        self,
        *,
        net: nn.Module,
        extractor: nn.Module,
        loss: PerceptualLoss,
        style_pictures: Sequence[Tensor],
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        schedule: Callable[..., LRScheduler],
    ) -> None:
        super().__init__()
        self.net = net.to(memory_format=torch.channels_last)
        self.extractor = extractor.to(memory_format=torch.channels_last)
        self.loss = loss
        self.style_pictures = list(style_pictures)
        self.make_optimizer, self.make_schedule = optimizer, schedule
        self.target: StyleTarget | None = None
        self.terms: Terms | None = None  # of the last step, averaged over this process's batch, on the device
        self.strict_loading = False  # the extractor's weights are not in the checkpoint

    def forward(self, photos: Tensor) -> Tensor:
        """Repaint (B, 3, H, W) photos."""
        restyled: Tensor = self.net(photos)
        return restyled

    def on_fit_start(self) -> None:
        """Compute the style's target once, in float32 whatever the precision of the run."""
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            pictures = [picture.to(self.device) for picture in self.style_pictures]
            layers = self.loss.style_layers
            self.target = style_target(pictures, [self.extractor(p, layers) for p in pictures], layers)

    def score(self, photos: Tensor) -> tuple[Terms, Tensor]:
        """The loss terms photo by photo, each (B,), and the repainted photos."""
        assert self.target is not None, "on_fit_start has not run"
        with torch.no_grad():  # first, while there is nothing yet that backward needs: it keeps the peak of memory low
            photo_features = self.extractor(photos, tuple(self.loss.content_layers))
        restyled: Tensor = self.net(photos)
        features = self.extractor(restyled, (*self.loss.style_layers, *self.loss.content_layers))
        return self.loss(restyled, features, photo_features, self.target), restyled

    def training_step(self, photos: Tensor, batch_index: int) -> Tensor:
        """One batch of (B, 3, H, W) float32 photos in [0, 1]."""
        photos = photos.contiguous(memory_format=torch.channels_last)
        terms = self.score(photos)[0].mean()
        self.terms = Terms(*(term.detach() for term in terms))
        return terms.total

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Optimizer over the network's parameters; the schedule advances with every step.

        Raises:
            UsageError: a setting that one of them refuses.
        """
        try:
            optimizer = self.make_optimizer(self.net.parameters())
            schedule = self.make_schedule(optimizer, max_steps=self.trainer.max_steps)
        except (TypeError, ValueError) as error:
            raise UsageError(f"optimizer or schedule: {error}") from error
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Everything but the frozen extractor, which comes from its own file."""
        state = super().state_dict(*args, **kwargs)
        return {name: value for name, value in state.items() if not name.startswith("extractor.")}

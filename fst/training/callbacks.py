"""What happens beside the steps: numbers are logged, pictures drawn, checkpoints kept, signals heeded."""

import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from fst import images
from fst.errors import FstError
from fst.export.model import RECIPE_KEY
from fst.files import whole_file
from fst.perceptual.losses import Terms
from fst.training.compiling import eagerly
from fst.training.data import PhotoData
from fst.training.loggers import MetricsCSV
from fst.training.tasks import StyleTask

_CURE = "try a smaller optimizer.lr"
_LANDING = 0.25  # share of trainer.max_time


@dataclass(frozen=True)
class TrainProgress:
    """Where a run stands. `terms` are the unweighted losses of the last logged step, by name."""

    step: int
    max_steps: int
    images_per_second: float
    terms: dict[str, float]


class NonFiniteLoss(FstError):  # noqa: N818 - what it is
    """The loss became infinite or not a number."""


class PerStep(pl.Callback):
    """Calls `on_step` after each step of the optimizer, however many batches it took."""

    _seen = 0

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        self._seen = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, task: pl.LightningModule, outputs: Any, batch: Tensor, batch_idx: int
    ) -> None:
        if trainer.global_step != self._seen:
            self._seen = trainer.global_step
            self.on_step(trainer, task, batch)

    def on_step(self, trainer: pl.Trainer, task: pl.LightningModule, batch: Tensor) -> None:
        """The step `trainer.global_step` is done; `batch` (B, 3, H, W) was its last."""
        raise NotImplementedError


class StepLog(PerStep):
    """Log losses, learning rate and images per second at step 1, every `trainer.log_every_n_steps`, and the last.

    Between those steps nothing is read back from the device. Terms are averaged over all processes.

    Args:
        on_progress: told about every logged step, on the first process only.
    """

    def __init__(self, on_progress: Callable[[TrainProgress], None] | None = None) -> None:
        self.on_progress = on_progress
        self.images_per_second = 0.0
        self._since = (0, 0.0)  # step and time of the last log

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        super().on_train_start(trainer, task)
        self._since = (trainer.global_step, time.perf_counter())
        if self.on_progress and trainer.is_global_zero:
            self.on_progress(TrainProgress(trainer.global_step, trainer.max_steps, 0.0, {}))

    def on_step(self, trainer: pl.Trainer, task: pl.LightningModule, batch: Tensor) -> None:
        assert isinstance(task, StyleTask)
        step = trainer.global_step
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if step != 1 and step % every and step != trainer.max_steps:
            return
        terms = trainer.strategy.reduce(torch.stack(list(task.terms.values())), reduce_op="mean")
        assert isinstance(terms, Tensor)
        values = dict(zip(task.terms, terms.tolist(), strict=True))
        now, (last_step, last_time) = time.perf_counter(), self._since
        self._since = (step, now)
        photos_per_step = len(batch) * trainer.world_size * trainer.accumulate_grad_batches
        self.images_per_second = photos_per_step * (step - last_step) / max(now - last_time, 1e-9)
        if not math.isfinite(values["total"]):
            raise NonFiniteLoss(f"the loss is {values['total']} at step {step}: {_CURE}")
        row = {f"train/{name}": value for name, value in values.items()}
        row |= {"lr": trainer.optimizers[0].param_groups[0]["lr"], "images_per_second": self.images_per_second}
        for logger in trainer.loggers:
            logger.log_metrics(row, step=step)
        if self.on_progress and trainer.is_global_zero:
            self.on_progress(TrainProgress(step, trainer.max_steps, self.images_per_second, values))


class Samples(PerStep):
    """Restyle the validation photos every `every_n_steps` steps and at the end: pictures and val/ losses.

    Writes samples/step_N.png and preview.png, photos above and a row of restyled photos for each of the task's looks
    below, and gives the sheet to the loggers that take pictures. Losses are averaged over the looks that are scored.

    Args:
        folder: of the run.
        every_n_steps: 0 draws at the end only.
    """

    def __init__(self, folder: Path, *, every_n_steps: int) -> None:
        self.folder, self.every_n_steps = Path(folder), every_n_steps
        self.scores: dict[str, float] = {}  # the last val/ losses
        self._drawn_at = -1

    def on_step(self, trainer: pl.Trainer, task: pl.LightningModule, batch: Tensor) -> None:
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            self.draw(trainer, task)

    def on_train_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        if self._drawn_at != trainer.global_step:
            self.draw(trainer, task)

    @torch.no_grad()
    def draw(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Restyle, score, write; on the first process only."""
        self._drawn_at = trainer.global_step
        if not trainer.is_global_zero:
            return
        assert isinstance(task, StyleTask)
        photos = trainer.datamodule.val_photos.to(task.device)  # type: ignore[attr-defined]
        task.net.eval()
        looks = task.looks()
        with trainer.precision_plugin.forward_context(), eagerly():
            painted = [[task.score(photo[None], look.inputs) for photo in photos] for look in looks]
        task.net.train()
        rows = [torch.cat([picture for _, picture in row]) for row in painted]
        if not all(row.isfinite().all() for row in rows):
            return  # the loss will say so
        scored = [terms for look, row in zip(looks, painted, strict=True) if look.scored for terms, _ in row]
        scores = torch.stack([torch.stack(terms.mean()) for terms in scored]).mean(0)
        values = dict(zip(Terms._fields, scores.tolist(), strict=True))
        self.scores = {f"val/{name}": value for name, value in values.items()}
        for logger in trainer.loggers:
            logger.log_metrics(self.scores, step=trainer.global_step)
        sheet = contact_sheet(photos, *rows)
        images.write(self.folder / "samples" / f"step_{trainer.global_step:06d}.png", sheet)
        images.write(self.folder / "preview.png", sheet)
        self._show(trainer, sheet)

    def _show(self, trainer: pl.Trainer, sheet: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, pl.loggers.TensorBoardLogger):
                logger.experiment.add_image("samples", sheet, trainer.global_step, dataformats="HWC")
            elif isinstance(logger, pl.loggers.WandbLogger):
                logger.log_image("samples", [sheet], step=trainer.global_step)


def contact_sheet(*rows: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Rows of pictures, photos above their restyled versions: N of (B, 3, H, W) in [0, 1] -> (N H, B W, 3) uint8."""
    lines = [torch.cat(list(row.float().cpu()), dim=2) for row in rows]
    return images.to_uint8(torch.cat(lines, dim=1).numpy())


class Keep(PerStep):
    """Write last.ckpt every `every_n_steps` steps, and whenever the run ends or is asked to stop.

    A network that cannot restyle a photo any more is never written, so that last.ckpt is always good. What an earlier
    run left in the folder and this one does not go on from is removed when the first step is about to begin.

    Args:
        folder: of the run.
        metrics: loses the rows that this run writes again.
        every_n_steps: at least 1.
        recipe: asked at each checkpoint for the recipe that goes into it, as JSON.
    """

    def __init__(
        self, folder: Path, metrics: MetricsCSV, *, every_n_steps: int, recipe: Callable[[int], str] | None = None
    ) -> None:
        self.path, self.every_n_steps, self.recipe = Path(folder) / "last.ckpt", every_n_steps, recipe
        self.metrics = metrics
        self.saved_at: int | None = None
        self._random: dict[str, Tensor] = {}  # of the checkpoint that the run goes on from, until its first step

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        super().on_train_start(trainer, task)
        if trainer.is_global_zero:
            self.metrics.forget_after(trainer.global_step)
            if self.saved_at is None:
                self.path.unlink(missing_ok=True)

    def on_step(self, trainer: pl.Trainer, task: pl.LightningModule, batch: Tensor) -> None:
        if trainer.global_step % self.every_n_steps == 0:
            self.save(trainer, task)

    def on_train_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        if self.saved_at != trainer.global_step:
            self.save(trainer, task)

    def save(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Write last.ckpt, whole or not at all (all processes call this).

        Raises:
            NonFiniteLoss: the network is broken; the file stays as it was.
        """
        if not trainer.strategy.reduce_boolean_decision(_is_sound(trainer, task)):
            raise NonFiniteLoss(f"the network gives no pictures any more at step {trainer.global_step}: {_CURE}")
        if trainer.is_global_zero:
            with whole_file(self.path) as temporary:
                trainer.save_checkpoint(temporary)
        else:
            trainer.save_checkpoint(self.path)  # waits for the first process, which writes
        self.saved_at = trainer.global_step

    def on_save_checkpoint(self, trainer: pl.Trainer, task: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["fst_rng"] = torch.get_rng_state()
        if task.device.type == "cuda":  # where networks draw their noise
            checkpoint["fst_cuda_rng"] = torch.cuda.get_rng_state(task.device)
        if self.recipe is not None:
            checkpoint[RECIPE_KEY] = self.recipe(trainer.global_step)

    def on_load_checkpoint(self, trainer: pl.Trainer, task: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        self.saved_at = checkpoint["global_step"]
        self._random = {name: checkpoint[name].cpu() for name in ("fst_rng", "fst_cuda_rng") if name in checkpoint}

    def on_train_batch_start(
        self, trainer: pl.Trainer, task: pl.LightningModule, batch: Tensor, batch_idx: int
    ) -> None:
        """Set the random numbers back now, and not when they are read: making the loader's iterator draws some, too."""
        state, self._random = self._random, {}
        if "fst_rng" in state:
            torch.set_rng_state(state["fst_rng"])
        if "fst_cuda_rng" in state and task.device.type == "cuda":
            torch.cuda.set_rng_state(state["fst_cuda_rng"], task.device)


@torch.no_grad()
def _is_sound(trainer: pl.Trainer, task: pl.LightningModule) -> bool:
    """Whether all weights are finite, and what becomes of a photo as well: weights of 1e30 are finite, too."""
    assert isinstance(task, StyleTask)
    photo = trainer.datamodule.val_photos[:1].to(task.device)  # type: ignore[attr-defined]
    task.net.eval()  # in training, a network may draw random numbers: a checkpoint must not change what comes after it
    with trainer.precision_plugin.forward_context():
        checked = [task(photo, **task.looks()[0].inputs), *task.parameters()]
    task.net.train()
    return bool(torch.stack([value.detach().isfinite().all() for value in checked]).all())


class StopOnSignal(PerStep):
    """End the run in good order on Ctrl-C or SIGTERM: the step is finished, a checkpoint is written.

    A second Ctrl-C ends at once. With several processes any one's signal stops all at the same step.
    """

    signals = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.stopped = False
        self._before: dict[signal.Signals, Any] = {}

    def setup(self, trainer: pl.Trainer, task: pl.LightningModule, stage: str) -> None:
        # Lightning's own answer to SIGTERM talks to the other processes at a moment when they may not listen.
        trainer._signal_connector._sigterm_notifier_fn = lambda *_: None  # type: ignore[method-assign]

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        super().on_train_start(trainer, task)
        # Here and not earlier: Lightning has installed its handlers, and there is something to save.
        for which in self.signals:
            self._before[which] = signal.signal(which, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)

    def on_step(self, trainer: pl.Trainer, task: pl.LightningModule, batch: Tensor) -> None:
        asked = self.received is not None
        if trainer.world_size > 1:
            if trainer.global_step % 5 and trainer.strategy.root_device.type != "cpu":
                return  # agreeing waits for the device: not at every step
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
        if asked and trainer.global_step < trainer.max_steps:
            self.stopped = trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        self._restore()

    def on_exception(self, trainer: pl.Trainer, task: pl.LightningModule, exception: BaseException) -> None:
        self._restore()

    def _restore(self) -> None:
        for which, handler in self._before.items():
            signal.signal(which, handler)
        self._before.clear()


class Landing(PerStep):
    """Let the learning rate run out where `trainer.max_time` is about to cut a run short of its steps.

    Over the last `_LANDING` of that time the rate is at most a straight line down to 0, whatever the schedule says: a
    network that is stopped in the midst of large steps paints worse than it could. A cosine that is planned to
    end when nine tenths of the time are over, and does, stays below the line, so that the clock changes nothing.
    """

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        super().on_train_start(trainer, task)
        self._timer = next((each for each in trainer.callbacks if isinstance(each, pl.callbacks.Timer)), None)  # type: ignore[attr-defined]

    def on_step(self, trainer: pl.Trainer, task: pl.LightningModule, batch: Tensor) -> None:
        left_s = self._timer.time_remaining() if self._timer else None
        if self._timer is None or left_s is None:
            return
        whole_s = left_s + self._timer.time_elapsed()
        share = trainer.strategy.broadcast(max(0.0, left_s) / (_LANDING * whole_s))  # the same for all processes
        if share < 1:
            for group in trainer.optimizers[0].param_groups:
                group["lr"] = min(group["lr"], share * group["initial_lr"])


class SkippedFiles(pl.Callback):
    """List in skipped.txt what could not be read, and count it at the end.

    A run that goes on adds to the list; one that begins anew does away with an old one.
    """

    def __init__(self, folder: Path) -> None:
        self.path, self.count = Path(folder) / "skipped.txt", 0
        self._before: list[str] = []

    def on_load_checkpoint(self, trainer: pl.Trainer, task: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        if self.path.is_file():
            self._before = self.path.read_text(encoding="utf-8", errors="replace").splitlines()

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        if trainer.is_global_zero and not self._before:
            self.path.unlink(missing_ok=True)

    def on_train_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, PhotoData)
        gathered: list[Any] = [list(data.skipped)]
        if trainer.world_size > 1:
            gathered = [None] * trainer.world_size
            torch.distributed.all_gather_object(gathered, list(data.skipped))
        met = (line.encode(errors="replace").decode() for lines in gathered for line in lines)  # as they are written
        lines = sorted({*self._before, *met})
        self.count = len(lines)
        if lines and trainer.is_global_zero:
            with whole_file(self.path) as temporary:
                temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")

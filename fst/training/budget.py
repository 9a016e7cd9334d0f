"""What can be learnt in the time there is: a few steps are timed on this machine, and size and steps follow.

Everything that takes time, but compiling, is timed by doing it, once: the start of a run, steps at several sizes, a
look at the validation photos, the export. What is done for it is thrown away, and random numbers go on as if nothing
had been.
"""

import copy
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor, nn

from fst import nets
from fst.errors import UsageError
from fst.training import processes, surroundings
from fst.training.callbacks import Keep, PerStep, Samples, StopOnSignal
from fst.training.crops import sides
from fst.training.data import PhotoData
from fst.training.loggers import MetricsCSV
from fst.training.tasks import StyleTask

_TIMED = 4  # steps at each size; the first warms up and does not count
_MARGIN = 0.1  # share of the time for steps that is left unplanned
Auto = Literal["auto"]


@dataclass(frozen=True)
class Budget:
    """What is wanted.

    Args:
        minutes: for the whole command; None is without a limit.
        sizes: sides of the crops to choose from, in px: the largest that leaves `enough_steps`, else the smallest.
        start_size: side of the first crops, in px, where it is below; None: all are alike.
        enough_steps: to prefer a larger size to more steps.
        least_steps: fewer make no usable model.
        most_steps: more do not make it better.
    """

    minutes: float | None
    sizes: Sequence[int]
    start_size: int | None
    enough_steps: int
    least_steps: int
    most_steps: int

    def __post_init__(self) -> None:
        if self.minutes is not None and not 0 <= self.minutes < math.inf:
            raise UsageError(f"budget.minutes must be a number of at least 0, not {self.minutes:g}")
        if not self.sizes or min(self.sizes) < 1:
            raise UsageError(f"budget.sizes must be sides of crops in pixels, like [96,128], not {list(self.sizes)}")
        for name in ("enough_steps", "least_steps", "most_steps"):
            if getattr(self, name) < 1:
                raise UsageError(f"budget.{name} must be at least 1, not {getattr(self, name)}")
        if self.least_steps > self.most_steps:
            raise UsageError(
                f"budget.least_steps={self.least_steps} is more than budget.most_steps={self.most_steps}: set both"
            )

    def with_typed(self, *, size: int | Auto, start_size: int | Auto | None, max_steps: int | Auto) -> "Budget":
        """Leave to be chosen only what is "auto"."""
        sizes = self.sizes if size == "auto" else (size,)
        start = self.start_size if start_size == "auto" else start_size
        if start_size == "auto" and start is not None:
            start = min(start, *sizes)
        elif start is not None:
            sizes = [each for each in sizes if each >= start] or sizes
        steps = {} if max_steps == "auto" else dict.fromkeys(("enough_steps", "least_steps", "most_steps"), max_steps)
        return replace(self, sizes=sorted(sizes), start_size=start, **steps)


@dataclass(frozen=True)
class Measured:
    """What this machine takes, in seconds.

    Args:
        step_s: for a training step, by the side of its crops in px.
        start_s: from data and task to the first step.
        look_s: to repaint and score validation photos of `look_px`, and to keep a checkpoint.
        export_s: to write the model files.
    """

    step_s: Mapping[int, float]
    start_s: float
    look_s: float
    look_px: int
    export_s: float

    def for_processes(self, count: int, *, on_cpu: bool, join_s: float) -> "Measured":
        """The same where further processes join in, each `join_s` after it is called: on a CPU they share its cores."""
        if count == 1:
            return self
        step_s = {side: seconds * (count if on_cpu else 1) for side, seconds in self.step_s.items()}
        return replace(self, step_s=step_s, start_s=self.start_s + join_s)

    def mean_step_s(self, size: int, start_size: int | None, grow_share: float) -> float:
        """Of a run whose crops grow as `Crops` lets them; between two sizes a step's time goes with its pixels."""
        known = sorted(self.step_s)
        areas = [side**2 for side in sides(start_size, size)]
        *growing, full = np.interp(areas, [side**2 for side in known], [self.step_s[side] for side in known])
        return float(grow_share * np.mean(growing) + (1 - grow_share) * full if growing else full)


@dataclass(frozen=True)
class Plan:
    """What is chosen.

    Args:
        size: side of the crops, in px.
        start_size: side of the first of them; None: all are alike.
        max_steps: how many steps.
        max_time_s: after which they end, done or not, so that a model is written in time; None: never.
        total_s: what the whole command is expected to take.
    """

    size: int
    start_size: int | None
    max_steps: int
    max_time_s: int | None
    total_s: float

    @property
    def settings(self) -> dict[str, Any]:
        """As keys of the configuration; `trainer.max_time` is days, hours, minutes, seconds."""
        found = {"data.size": self.size, "data.start_size": self.start_size, "trainer.max_steps": self.max_steps}
        if self.max_time_s is None:
            return found
        minutes, seconds = divmod(self.max_time_s, 60)
        hours, minutes = divmod(minutes, 60)
        days, hours = divmod(hours, 24)
        return {**found, "trainer.max_time": f"{days:02}:{hours:02}:{minutes:02}:{seconds:02}"}


def plan(budget: Budget, took: Measured, *, spent_s: float, grow_share: float, look_every: int) -> Plan:
    """Choose size and steps so that all is done in time.

    What comes after the last step is counted twice, and of the rest a tenth is left: a machine that becomes half as
    fast on the way stops at `max_time_s` and has the time to write its model.

    Args:
        spent_s: by now, of `budget.minutes`.
        grow_share: fraction of the steps with crops below the full size.
        look_every: steps between two looks at the validation photos; 0: only one at the end.

    Raises:
        UsageError: the time is too short for `budget.least_steps`.
    """
    given_s = math.inf if budget.minutes is None else 60 * budget.minutes
    for size in sorted(took.step_s.keys() & set(budget.sizes), reverse=True):
        start_size = None if budget.start_size is None or budget.start_size >= size else budget.start_size
        look_s = took.look_s * (size / took.look_px) ** 2
        step_s = took.mean_step_s(size, start_size, grow_share) + (look_s / look_every if look_every else 0.0)
        before_s, after_s = spent_s + took.start_s, look_s + took.export_s
        limit_s = given_s - before_s - 2 * after_s
        steps = int(min(budget.most_steps, (1 - _MARGIN) * limit_s / step_s))
        if steps >= min(budget.enough_steps, budget.most_steps):
            break
    if steps < budget.least_steps:
        least_s = before_s + 2 * after_s + budget.least_steps * step_s / (1 - _MARGIN)
        raise UsageError(
            f"budget.minutes={budget.minutes:g} is too little for {budget.least_steps} steps on this machine: "
            f"give it {math.ceil(least_s / 6) / 10:g} or more"
        )
    max_time_s = None if math.isinf(limit_s) else int(limit_s)
    return Plan(size, start_size, steps, max_time_s, before_s + steps * step_s + after_s)


def choose(
    budget: Budget,
    task: StyleTask,
    data: PhotoData,
    *,
    began: float,
    look_every: int,
    init: str | None,
    make_trainer: Callable[..., pl.Trainer],
    export: Callable[[Path, nn.Module], object],
) -> tuple[Plan, str]:
    """Measure this machine and plan by it; the plan, and the line that says what the run will take.

    Args:
        data: of its own: its crops become those of `budget`.
        began: when the command did, by time.monotonic().
        look_every: see `plan`.
        init: what the network begins with, to be said.
        make_trainer: with the run's own settings, less those `without`, and what is given here.
        export: writes a network's model files into a folder.

    Raises:
        UsageError: too little time; processes that others start, which would each plan for themselves.
        FstError: as the run itself.
    """
    if not processes.environment():
        raise UsageError("budget plans in one process, which starts the others: leave that to trainer.devices")
    before = time.monotonic()
    data.prepare_data()
    began += time.monotonic() - before  # what is fetched first takes the time it takes
    left_s = math.inf if budget.minutes is None else 60 * budget.minutes - (time.monotonic() - began)
    whole = make_trainer(without=["max_steps"], max_steps=1)
    count, device = whole.num_devices, whole.strategy.root_device
    alone: dict[str, Any] = {"without": ["max_steps", "max_time"]}
    if count > 1:
        alone = {"without": [*alone["without"], "devices", "strategy"], "devices": 1}
    joining_s, grow_share = time.monotonic() - began, data.grow_share
    took = measure(task, data, budget, left_s=left_s, make_trainer=partial(make_trainer, **alone), export=export)
    took = took.for_processes(count, on_cpu=device.type == "cpu", join_s=joining_s)
    spent_s = time.monotonic() - began
    chosen = plan(budget, took, spent_s=spent_s, grow_share=grow_share, look_every=look_every)
    photos = data.batch_size * count * whole.accumulate_grad_batches
    return chosen, _line(budget, chosen, task, init, photos, _name(device, count))


def measure(
    task: StyleTask,
    data: PhotoData,
    budget: Budget,
    *,
    left_s: float,
    make_trainer: Callable[..., pl.Trainer],
    export: Callable[[Path, nn.Module], object],
) -> Measured:
    """Let a copy of `task` learn from crops of each size for a few steps, look at photos and be exported.

    The last size that is timed is one of whose steps `left_s` has not two thirds of those that would be enough: crops
    that grow to it take less than that on the way. When that time is over, nothing more is timed.
    """
    sizes = sorted({*budget.sizes, budget.start_size or budget.sizes[0]})
    data.crops.sizes, data.grow_share = sizes, (len(sizes) - 1) / len(sizes) or 1.0
    trial, stop = copy.deepcopy(task), StopOnSignal()
    clock = _Clock(1.5 * left_s / budget.enough_steps, time.monotonic() + left_s, budget.sizes[0])
    with TemporaryDirectory() as name, isolate_rng():
        folder, began = Path(name), time.monotonic()
        keep = Keep(folder, MetricsCSV(folder), every_n_steps=_TIMED * len(sizes) + 1)
        callbacks = [clock, Samples(folder, every_n_steps=0), keep, stop]
        trainer = make_trainer(default_root_dir=folder, callbacks=callbacks, max_steps=_TIMED * len(sizes))
        with surroundings.fitting(stop):
            trainer.fit(trial, datamodule=data)
        if stop.stopped:
            raise KeyboardInterrupt
        ended = time.monotonic()
        export(folder, trial.net)
        exported = time.monotonic()
    step_s = clock.step_s()
    return Measured(step_s, clock.first_at - began, ended - clock.last_at, min(step_s), exported - ended)


class _Clock(PerStep):
    """Times steps by the side of their crops; ends with a size of slower ones than `slowest_s`, and at `until`.

    But not before the size `at_least`, in px.
    """

    def __init__(self, slowest_s: float, until: float, at_least: int) -> None:
        self.slowest_s, self.until, self.at_least = slowest_s, until, at_least
        self.took: dict[int, list[float]] = {}
        self.first_at = self.last_at = 0.0

    def step_s(self) -> dict[int, float]:
        """Of each size, the median of what counts."""
        return {size: statistics.median(took[1:] or took) for size, took in self.took.items()}

    def on_train_batch_start(
        self, trainer: pl.Trainer, task: pl.LightningModule, batch: Tensor, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            self.first_at = self.last_at = time.monotonic()

    def on_step(self, trainer: pl.Trainer, task: pl.LightningModule, batch: Tensor) -> None:
        if task.device.type != "cpu":
            torch.accelerator.synchronize()
        now, size = time.monotonic(), batch.shape[-1]
        self.took.setdefault(size, []).append(now - self.last_at)
        self.last_at = now
        slow = len(self.took[size]) == _TIMED and self.step_s()[size] > self.slowest_s
        if size >= self.at_least and (slow or now > self.until):
            trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Photos of the smallest size are looked at: it takes long, and goes with their pixels."""
        data, size = trainer.datamodule, min(self.took)  # type: ignore[attr-defined]
        data.val_photos = data.val_photos[..., :size, :size]
        self.last_at = time.monotonic()


def _line(budget: Budget, chosen: Plan, task: StyleTask, init: str | None, photos_per_step: int, device: str) -> str:
    """What a run will take: "budget 5 min: net=fast from multi, VGG-19, 760 steps of 4 crops ..."."""
    recipe = nets.recipe_of(task.net)
    net = recipe.get("net", recipe)["name"]
    extractor = type(task.extractor).__name__.lower().replace("vgg19", "VGG-19")
    crops = f"{chosen.size} px" if chosen.start_size is None else f"{chosen.start_size} to {chosen.size} px"
    limit = "without limit" if budget.minutes is None else f"{budget.minutes:g} min"
    steps = f"{chosen.max_steps:,} steps of {photos_per_step} crops at {crops} on {device}"
    begins = f" from {init}" if init else ""
    return f"budget {limit}: net={net}{begins}, {extractor}, {steps}, about {_duration(chosen.total_s)}"


def _name(device: torch.device, count: int) -> str:
    """Where steps are done: "2 CPU cores", "4 x NVIDIA H100"."""
    if device.type == "cpu":
        cores = torch.get_num_threads()
        return f"{cores} CPU core{'s' if cores > 1 else ''}"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return name if count == 1 else f"{count} x {name}"


def _duration(seconds: float) -> str:
    """Two units: "40 s", "4 min 30 s", "2 h 40 min"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

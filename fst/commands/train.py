"""`fst train`: learn a style. The configuration is Hydra's, see conf/ and `fst train --help`."""

import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fst.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from fst.download import DownloadProgress
    from fst.training.callbacks import TrainProgress
    from fst.training.coco import CocoProgress

_NEEDED = ("torch", "torchvision", "pytorch_lightning", "hydra", "onnx", "onnxscript")


def require_training() -> None:
    """Raise UsageError where the training half is not installed."""
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise UsageError(f"this needs {', '.join(missing)}: pip install '.[train]' in fst's checkout")


def main(argv: Sequence[str]) -> int:
    """Run `fst train`."""
    require_training()
    from fst.training import train

    display = _Bar() if sys.stdout.isatty() else _Lines()
    try:
        return train.main(argv, on_progress=display.show, on_transfer=display.transfer, say=display.say)
    finally:
        display.close()


def _numbers(progress: "TrainProgress") -> str:
    terms = "  ".join(f"{name} {value:.4f}" for name, value in progress.terms.items() if name != "tv")
    return f"{terms}  {progress.images_per_second:.1f} images/s"


def _transfer(progress: "DownloadProgress | CocoProgress") -> tuple[str, int, int | None, str]:
    """What is being fetched, how much of it is done, how much there is, and in which unit."""
    from fst.download import DownloadProgress

    if isinstance(progress, DownloadProgress):
        return progress.url.rpartition("/")[2] or progress.url, progress.done_bytes, progress.total_bytes, "bytes"
    return progress.stage, progress.done, progress.total, progress.unit


class _Lines:
    """A line now and then, for logs."""

    def __init__(self) -> None:
        self._next = 0.0

    def transfer(self, progress: "DownloadProgress | CocoProgress") -> None:
        what, done, total, unit = _transfer(progress)
        if time.monotonic() >= self._next or done == total:
            self._next = time.monotonic() + 10
            print(f"{what}: {done:,}{f' of {total:,}' if total else ''} {unit}", flush=True)

    def show(self, progress: "TrainProgress") -> None:
        last = progress.step == progress.max_steps
        if progress.terms and (time.monotonic() >= self._next or last):
            self._next = time.monotonic() + 10
            print(f"step {progress.step}/{progress.max_steps}  {_numbers(progress)}", flush=True)

    def say(self, line: str) -> None:
        print(line, flush=True)

    def close(self) -> None: ...


class _Bar:
    """A bar with losses, speed and what is left, for a terminal."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._what: str | None = None  # is fetched; None while training

    def show(self, progress: "TrainProgress") -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        if self._bar is None or self._task is None or self._what is not None:
            self.close()
            columns = (
                "training",
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[numbers]}"),
            )
            self._bar = Progress(*columns)
            self._bar.start()
            self._task = self._bar.add_task("", total=progress.max_steps, numbers="")
        numbers = _numbers(progress) if progress.terms else "starting"
        self._bar.update(self._task, completed=progress.step, total=progress.max_steps, numbers=numbers)

    def transfer(self, progress: "DownloadProgress | CocoProgress") -> None:
        from rich.progress import Progress

        what, done, total, _ = _transfer(progress)
        if self._bar is None or self._task is None or self._what != what:
            self.close()
            self._bar, self._what = Progress(transient=True), what
            self._bar.start()
            self._task = self._bar.add_task(what, total=total)
        self._bar.update(self._task, completed=done, total=total)
        if done == total:
            self.close()

    def say(self, line: str) -> None:
        self.close()
        print(line, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = self._what = None

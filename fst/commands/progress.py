"""How far long work has come: a bar on a terminal, lines in a log."""

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from fst.download import DownloadProgress
    from fst.training.coco import CocoProgress


def display(*, quiet: bool = False) -> "Bar | Lines":
    """What suits stdout; `quiet`: nothing at all."""
    if quiet:
        return Quiet()
    return Bar() if sys.stdout.isatty() else Lines()


def _transfer(progress: "DownloadProgress | CocoProgress") -> tuple[str, int, int | None, str]:
    """What is being fetched, how much of it is done, how much there is, and in which unit."""
    from fst.download import DownloadProgress

    if isinstance(progress, DownloadProgress):
        return progress.url.rpartition("/")[2] or progress.url, progress.done_bytes, progress.total_bytes, "bytes"
    return progress.stage, progress.done, progress.total, progress.unit


class Lines:
    """A line now and then, for logs."""

    def __init__(self) -> None:
        self._next = 0.0

    def transfer(self, progress: "DownloadProgress | CocoProgress") -> None:
        what, done, total, unit = _transfer(progress)
        if time.monotonic() >= self._next or done == total:
            self._next = time.monotonic() + 10
            self.say(f"{what}: {done:,}{f' of {total:,}' if total else ''} {unit}")

    def show(self, what: str, unit: str, step: int, steps: int, numbers: str) -> None:
        if numbers and (time.monotonic() >= self._next or step == steps):
            self._next = time.monotonic() + 10
            self.say(f"{unit} {step}/{steps}  {numbers}")

    def say(self, line: str) -> None:
        print(line, flush=True)

    def close(self) -> None: ...


class Quiet(Lines):
    """Nothing."""

    def say(self, line: str) -> None: ...


class Bar:
    """A bar with numbers and what is left, for a terminal."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._what: str | None = None

    def show(self, what: str, unit: str, step: int, steps: int, numbers: str) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        if self._bar is None or self._task is None or self._what != what:
            self.close()
            numbered = TextColumn("{task.fields[n]}", markup=False)
            columns = (what, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), numbered)
            self._bar, self._what = Progress(*columns), what
            self._bar.start()
            self._task = self._bar.add_task("", total=steps, n="")
        self._bar.update(self._task, completed=step, total=steps, n=numbers or "starting")

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

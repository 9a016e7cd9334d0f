"""The other processes of a run on several devices: started, watched, and gone when the run is.

Lightning's own launcher repeats the command line, kills the run without a word when a process fails, and leaves
processes behind when the first is killed. These processes read what to do from the run's folder instead.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.lsf import LSFEnvironment
from lightning_fabric.plugins.environments.mpi import MPIEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from fst.errors import FstError, UsageError

_GRACE_S = 10.0  # for the run to notice by itself that a process has failed
_MOST_ON_CPU = max(8, os.cpu_count() or 1)


class Ours(LightningEnvironment):
    """Tells Lightning that the processes are started by us."""

    @property
    def creates_processes_externally(self) -> bool:
        return True


def environment() -> list[LightningEnvironment]:
    """The plugin for the Trainer: none where torchrun, SLURM, MPI or LSF start the processes."""
    others = (TorchElasticEnvironment, SLURMEnvironment, LSFEnvironment, MPIEnvironment)
    return [] if any(kind.detect() for kind in others) else [Ours()]


@contextmanager
def others(trainer: pl.Trainer, command: Sequence[str]) -> Iterator[None]:
    """Run `command` with this Python for each further device while the block lasts, LOCAL_RANK telling which it is.

    One that fails on its way out, when the first has done its part, has failed at nothing: every step was shared.

    Raises:
        FstError: one of them failed before the block was through, with its last line.
        UsageError: far more processes than the processor has cores.
    """
    ours = getattr(trainer.strategy, "cluster_environment", None)
    if not isinstance(ours, Ours) or trainer.num_devices < 2 or "LOCAL_RANK" in os.environ:
        yield
        return
    if trainer.strategy.root_device.type == "cpu" and trainer.num_devices > _MOST_ON_CPU:
        raise UsageError(f"trainer.devices={trainer.num_devices}: at most {_MOST_ON_CPU} processes on this processor")
    before = {name: os.environ.get(name) for name in ("MASTER_ADDR", "MASTER_PORT")}
    group = _Group(command, range(1, trainer.num_devices), ours.main_port)
    try:
        yield
        group.end(within_s=60.0)
    except FstError:
        raise
    except Exception as error:  # most often: the connection to a process that failed is lost
        if failed := group.failed(within_s=_GRACE_S / 2):
            raise FstError(failed) from error
        raise
    finally:
        group.end(within_s=0.0)
        for name, value in before.items():  # Lightning set them: the next run of a sweep needs others
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


class _Group:
    def __init__(self, command: Sequence[str], ranks: Sequence[int], port: int) -> None:
        package = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        address = os.environ.get("MASTER_ADDR", "127.0.0.1")
        shared = os.environ | {"MASTER_ADDR": address, "MASTER_PORT": str(port), "PYTHONPATH": path}
        self.errors: list[IO[bytes]] = [tempfile.TemporaryFile() for _ in ranks]  # noqa: SIM115 - closed in end()
        self.processes = [
            subprocess.Popen(
                [sys.executable, *command],
                env=shared | {"LOCAL_RANK": str(rank)},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,  # Ctrl-C reaches the first process only, which tells the others when to stop
            )
            for rank, errors in zip(ranks, self.errors, strict=True)
        ]
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def failed(self, within_s: float = 0.0) -> str | None:
        """What the first process that failed said last."""
        until = time.monotonic() + within_s
        while True:
            for rank, process in enumerate(self.processes, 1):
                if code := process.poll():
                    return f"process {rank}: {self._last_line(rank, code)}"
            if time.monotonic() >= until:
                return None
            time.sleep(0.1)

    def end(self, within_s: float) -> None:
        """Let all of them go, wait for their end, and kill those that do not."""
        until = time.monotonic() + within_s
        for process in self.processes:
            if process.stdin and not process.stdin.closed:
                with suppress(OSError):  # it has ended
                    process.stdin.write(b"\n")
                    process.stdin.flush()
                with suppress(OSError):
                    process.stdin.close()
        for process in self.processes:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._ended.set()
        self._watcher.join()
        for errors in self.errors:
            errors.close()

    def _last_line(self, rank: int, code: int) -> str:
        if code < 0:
            return f"killed ({signal.Signals(-code).name})"
        errors = self.errors[rank - 1]
        errors.seek(0)
        lines = errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"ended with code {code}"

    def _watch(self) -> None:
        """End this process, which waits for a failed one in a place where no exception reaches it."""
        while not self._ended.wait(0.5):
            if (failed := self.failed()) and not self._ended.wait(_GRACE_S):
                print(f"fst: {failed}", file=sys.stderr, flush=True)
                for process in self.processes:
                    process.kill()
                os._exit(1)


def wait_for_the_first() -> None:
    """Wait until the first process needs the others no more: one that leaves early can break its last exchange."""
    sys.stdin.buffer.read(1)


def follow_parent() -> None:
    """End this process soon after the one that started it."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        with suppress(OSError):
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

"""Runs of `fst train` that take less than a second: drawn photos, a random VGG-19, a network of 4 channels."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

import fst
from fst.errors import FstError
from fst.training import train
from fst.training.loggers import read_metrics

# What the command line does, less the bars; STOP=step:signal[:step:signal...] signals itself at these steps.
ENTRY = """
import os, signal, sys
from fst.errors import FstError
from fst.training import train

if os.environ.get("NO_EXPORT"):
    train.model.write = lambda path, net, recipe: None
stops = os.environ.get("STOP", "").split(":")
stops = dict(zip(map(int, stops[::2]), stops[1::2])) if stops != [""] else {}

def progress(p):
    if p.step in stops:
        os.kill(os.getpid(), getattr(signal, stops.pop(p.step)))
    if os.environ.get("SHOW"):
        print(p.step, flush=True)

if __name__ == "__main__":
    try:
        sys.exit(train.main(sys.argv[2:], on_progress=progress))
    except FstError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
"""


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory, random_vgg: Callable[..., Path]) -> Path:
    """A folder with vgg19.safetensors, photos/ and the entry point."""
    folder = tmp_path_factory.mktemp("material")
    (folder / "vgg19.safetensors").symlink_to(random_vgg())
    (folder / "photos").mkdir()
    random = np.random.default_rng(0)
    for number in range(12):
        coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        coarse.resize((64, 48), Image.Resampling.BICUBIC).save(folder / "photos" / f"{number:02}.png")
    (folder / "fst_entry.py").write_text(ENTRY)
    return folder


@pytest.fixture(scope="session")
def tiny(material: Path) -> list[str]:
    """Overrides that make a step take milliseconds, logged one by one."""
    return [
        "style=stained_glass",
        "style.size_px=32",
        f"data.dir={material}/photos",
        "data.size=32",
        "data.batch_size=2",
        "data.val_count=2",
        "data.num_workers=0",
        "net.width=4",
        "net.blocks=1",
        "trainer=cpu",
        "trainer.precision=32-true",
        "trainer.max_steps=4",
        "trainer.log_every_n_steps=1",
        "logger=csv",
    ]


@pytest.fixture
def elsewhere(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in an empty folder, with nothing of this machine's settings, and leave signals and threads as they were."""
    for name in [n for n in os.environ if n.startswith(("FST_", "WANDB_", "HYDRA_", "PL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FST_VGG19_WEIGHTS", str(material / "vgg19.safetensors"))
    monkeypatch.setenv("FST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(fst.__file__).parents[1]))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    handlers = {which: signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the processes that the tests start: the same sums in the same order
    yield
    torch.set_num_threads(threads)
    left = {which: signal.getsignal(which) for which in handlers}
    signal.signal(signal.SIGINT, interrupt)
    assert left == handlers


class Ended(SimpleNamespace):
    """How a run ended; `error` is the FstError's text or ""."""

    code: int
    out: str
    err: str
    error: str


@pytest.fixture
def fst_train(
    elsewhere: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """`fst_train(*argv)`: run `fst train` in this process, without the export; `at={step: signal}` signals it."""

    def run(*argv: str, at: dict[int, signal.Signals] | None = None, export: bool = False) -> Ended:
        def progress(now: train.TrainProgress) -> None:
            if at and now.step in at:
                os.kill(os.getpid(), at[now.step])

        with monkeypatch.context() as patch:
            if not export:
                patch.setattr(train.model, "write", lambda path, net, recipe: None)
            capfd.readouterr()
            error = ""
            try:
                code = train.main(argv, on_progress=progress)
            except FstError as raised:
                code, error = raised.exit_code, str(raised)
            except SystemExit as end:
                code = int(end.code or 0)
        out, err = capfd.readouterr()
        return Ended(code=code, out=out, err=err, error=error)

    return run


class Started:
    """A run of `fst train` in a process group of its own, and what it has started."""

    def __init__(self, argv: Sequence[str], entry: Path, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(entry), "train", *argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "NO_EXPORT": "1", "SHOW": "1", **environment},
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # tests may run in background
        )
        self.family: dict[int, psutil.Process] = {}

    def wait_for_step(self, step: int) -> "Started":
        """Wait until a step has been logged."""
        assert self.process.stdout
        for line in self.process.stdout:
            self._note_family()
            if line.strip() == str(step):
                return self
        raise AssertionError(f"ended before step {step}: {self.process.stderr and self.process.stderr.read()}")

    def wait_for_file(self, pattern: str) -> "Started":
        """Wait until a file is there."""
        until = time.monotonic() + 600
        while not any(Path().glob(pattern)):
            assert time.monotonic() < until
            time.sleep(0.05)
        return self

    def children(self) -> list[psutil.Process]:
        """What it has started by now."""
        return psutil.Process(self.process.pid).children()

    def signal(self, which: signal.Signals, *, group: bool = False) -> "Started":
        """Send a signal to the process, or to its group as a terminal does."""
        self._note_family()
        (os.killpg if group else os.kill)(self.process.pid, which)
        return self

    def wait(self) -> Ended:
        """Wait for the end, and for everything that was started to end."""
        self._note_family()
        out, err = self.process.communicate(timeout=900)
        _, left = psutil.wait_procs(list(self.family.values()), timeout=15)
        assert not left, f"still running: {left}"
        return Ended(code=self.process.returncode, out=out, err=err, error=err.strip())

    def _note_family(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self.family |= {p.pid: p for p in psutil.Process(self.process.pid).children(recursive=True)}


@pytest.fixture
def start(elsewhere: None, material: Path) -> Iterator[Callable[..., Started]]:
    """`start(*argv, STOP=..., SHOW="1")`: begin `fst train` in a process of its own."""
    begun: list[Started] = []

    def begin(*argv: str, **environment: str) -> Started:
        begun.append(Started(argv, material / "fst_entry.py", **environment))
        return begun[-1]

    yield begin
    for one in begun:
        if one.process.poll() is None:
            os.killpg(one.process.pid, signal.SIGKILL)
            one.process.wait()


@pytest.fixture
def losses() -> Callable[[str | Path], dict[int, dict[str, float]]]:
    """`losses(folder)`: the rows of a run's metrics.csv by step; fails when a step is there twice."""

    def read(folder: str | Path) -> dict[int, dict[str, float]]:
        rows = read_metrics(Path(folder) / "metrics.csv")
        by_step = {int(row["step"]): row for row in rows}
        assert len(by_step) == len(rows), "a step was logged twice"
        return by_step

    return read

"""Measurements in turn, A B A B, each in a fresh process: nothing that one leaves behind helps or hurts the next."""

import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fst.errors import FstError, UsageError
from fst.version import __version__

Result = dict[str, Any]
Say = Callable[[str], None]
_ENTRY = "from fst.evaluation.jobs import child; child()"
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def run_job(name: str, *, threads: int, timeout_s: float | None = None, **arguments: Any) -> Result:
    """Run the function `name` of fst.evaluation.jobs in a process of its own with `threads` threads.

    Raises:
        FstError: it failed, with what it said last, or took longer than `timeout_s`.
    """
    package = Path(__file__).resolve().parents[2]
    environment = os.environ | dict.fromkeys(_THREAD_VARIABLES, str(threads))
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(package), os.environ.get("PYTHONPATH"))))
    with tempfile.TemporaryDirectory(prefix="fst-bench-") as folder:
        result = Path(folder) / "result.json"
        asked = {"job": name, "threads": threads, "result": str(result), "arguments": arguments}
        words = [sys.executable, "-c", _ENTRY]
        options: dict[str, Any] = {"capture_output": True, "text": True, "env": environment, "timeout": timeout_s}
        try:
            done = subprocess.run(words, input=json.dumps(asked), check=False, **options)
        except subprocess.TimeoutExpired as error:
            raise FstError(f"measuring {name} took longer than {timeout_s:.0f} s") from error
        if done.returncode == 0 and result.is_file():
            found: Result = json.loads(result.read_text(encoding="utf-8"))
            return found
    last = (done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"])[-1]
    if done.returncode == UsageError.exit_code:
        raise UsageError(last)
    raise FstError(f"measuring {name} failed: {last}")


def alternate(jobs: Mapping[str, Callable[[], Result]], rounds: int, say: Say) -> list[dict[str, Result]]:
    """Run every job once per round, in turn; a dict of results per round."""
    found = []
    for number in range(1, rounds + 1):
        done = {}
        for name, job in jobs.items():
            say(f"round {number} of {rounds}: {name}")
            done[name] = job()
        found.append(done)
    return found


def median(values: Sequence[float | None]) -> float | None:
    """The median of those that are numbers, None where there is none."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def ratio(value: float | None, to: float | None) -> float | None:
    """`value / to`, None where one is missing."""
    return value / to if value is not None and to else None


def cores() -> int:
    """Cores that this process may use, as Stylizer counts them."""
    from fst.inference import stylizer

    return stylizer._cores()


def header(threads: int, device: str) -> Result:
    """What a measurement is worth nothing without: machine, threads, versions, date."""
    import psutil

    found = {}
    for name in ("torch", "pytorch-lightning", "onnxruntime", "numpy", "pillow"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": _processor(),
        "cores": cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "threads": threads,
        "device": device,
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {"fst": __version__, **found},
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())

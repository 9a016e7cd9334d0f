"""Where numbers go: metrics.csv, which every run writes, and TensorBoard or Weights & Biases beside it."""

import csv
import math
import netrc
import os
from argparse import Namespace
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from fst.errors import UsageError
from fst.files import whole_file

COLUMNS = (
    "step",
    "train/content",
    "train/style",
    "train/tv",
    "train/total",
    "val/content",
    "val/style",
    "val/tv",
    "val/total",
    "lr",
    "images_per_second",
)


class MetricsCSV(Logger):
    """One row per logged step, on the disk at once, and kept when a run goes on (Lightning's CSVLogger deletes them).

    Args:
        folder: the run's folder; the file is `folder`/metrics.csv.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self._rows: list[dict[str, float]] | None = None  # what the file holds; None before it was read

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the configuration has a file of its own, config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a row; a step that is logged in several calls becomes one row."""
        begun = self._rows is not None and self.path.exists()
        rows = self._rows if self._rows is not None and begun else read_metrics(self.path)
        header = columns(rows)
        row = {"step": float(step or 0), **metrics}
        merge = bool(rows) and rows[-1]["step"] == row["step"]
        if merge:
            rows[-1] |= row
        else:
            rows.append(row)
        if begun and not merge and row.keys() <= set(header):
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, header).writerow(_text(row))
        else:
            write_metrics(self.path, rows)
        self._rows = rows

    @rank_zero_only
    def forget_after(self, step: int) -> None:
        """Drop rows past `step`: a run that goes on from there writes them again."""
        self._rows = None
        if self.path.exists():
            write_metrics(self.path, [row for row in read_metrics(self.path) if row["step"] <= step])


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of a metrics.csv, empty cells left out; a last line cut short by a crash is dropped. [] if no file."""
    if not path.exists():
        return []
    rows = []
    whole, _, _ = path.read_text(encoding="utf-8", errors="replace").rpartition("\n")
    for line in csv.DictReader(whole.splitlines()):
        try:
            rows.append({name: float(value) for name, value in line.items() if name and value})
        except (TypeError, ValueError):
            continue
    return [row for row in rows if math.isfinite(row.get("step", math.nan))]


def write_metrics(path: Path, rows: list[dict[str, float]]) -> None:
    """Write metrics.csv whole: the standard columns first, then whatever else was logged."""
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns(rows))
        writer.writeheader()
        writer.writerows(_text(row) for row in rows)


def columns(rows: list[dict[str, float]]) -> list[str]:
    """The header for these rows: COLUMNS, then other names in the order of the alphabet."""
    return [*COLUMNS, *sorted({name for row in rows for name in row} - set(COLUMNS))]


def _text(row: Mapping[str, float]) -> dict[str, str]:
    return {name: str(int(value)) if name == "step" else f"{value:.9g}" for name, value in row.items()}


def tensorboard(*, folder: Path) -> Logger:
    """TensorBoard's event files in the run's folder. Raises UsageError where tensorboard is not installed."""
    _require("tensorboard")
    from pytorch_lightning.loggers import TensorBoardLogger

    return TensorBoardLogger(save_dir=folder, name="", version="tensorboard")


def wandb(*, folder: Path, project: str = "fst", required: bool = False) -> Logger | None:
    """Weights & Biases, offline where no key is set up, so that nothing is ever asked. None where not installed.

    Raises:
        UsageError: it is `required` and not installed.
    """
    if required:
        _require("wandb")
    if not _installed("wandb"):
        return None
    if not os.environ.get("WANDB_MODE") and not _has_wandb_key():
        os.environ["WANDB_MODE"] = "offline"
    os.environ.setdefault("WANDB_SILENT", "true")
    from pytorch_lightning.loggers import WandbLogger

    logger = WandbLogger(
        project=project,
        save_dir=folder,
        name=f"{folder.parent.name}/{folder.name}",
        offline=os.environ.get("WANDB_MODE") == "offline",
    )
    logger._wandb_init.pop("anonymous", None)  # Lightning passes it, and wandb warns that it has no effect any more
    return logger


def close(loggers: Iterable[Logger]) -> None:
    """End the runs of Weights & Biases, which would else take in the next run of a sweep."""
    from pytorch_lightning.loggers import WandbLogger

    for logger in loggers:
        if isinstance(logger, WandbLogger) and logger._experiment is not None:
            logger.experiment.finish()


def _has_wandb_key() -> bool:
    """Whether a key is in the environment or in the netrc file, the two places where wandb keeps one."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    for name in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc"):
        try:
            if name and netrc.netrc(Path(name).expanduser()).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def _installed(package: str) -> bool:
    """Whether it can be imported; a plain folder of that name, such as wandb leaves behind, is no package."""
    spec = find_spec(package)
    return spec is not None and spec.origin is not None


def _require(package: str) -> None:
    if not _installed(package):
        raise UsageError(f"logger={package} needs the package {package}: pip install {package}")

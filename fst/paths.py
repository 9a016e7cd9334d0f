"""Where the files that fst carries lie: beside the package in a checkout, inside it when installed from a wheel."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def carried(name: str) -> Path:
    """The folder `name` ("conf" or "checkpoints") of this installation."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def cache_folder() -> Path:
    """Where fetched files are kept: FST_CACHE, else XDG_CACHE_HOME/fst, else ~/.cache/fst. Not made here."""
    if own := os.environ.get("FST_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fst"

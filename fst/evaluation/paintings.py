"""Photos as a model repaints them, one after the other, and how long that takes. No torch."""

import importlib.util
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from fst import images
from fst.errors import FstError, UsageError
from fst.inference.stylizer import Stylizer
from fst.inputs import Value

SMALLEST_PX = 16
Wishes = Mapping[str, Any]
Result = dict[str, Any]
_BUNDLED = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "camera.png")
_NO_SCORES = ("photo", "width", "height", "note", "gatys_totals")


@dataclass(frozen=True)
class Painting:
    """A photo and its repaintings, (H, W, 3) uint8 sRGB each, or the error that came instead.

    Args:
        path: of the photo.
        photo: as it was painted: transparency laid on white, no larger than asked for.
        results: one, or as many as there were wishes.
        milliseconds: for one of them, after a first that does not count.
        note: why it is smaller than asked for, if it is.
        error: what is wrong with the photo, in one line.
    """

    path: Path
    photo: images.Pixels = field(repr=False, default_factory=lambda: np.empty((0, 0, 3), np.uint8))
    results: Sequence[images.Pixels] = field(repr=False, default=())
    milliseconds: float = 0.0
    note: str | None = None
    error: str | None = None

    def described(self) -> Result:
        """A row of a file of results."""
        if self.error is not None:
            return {"photo": str(self.path), "error": self.error}
        height, width = self.photo.shape[:2]
        row = {"photo": str(self.path), "width": width, "height": height, "note": self.note}
        return row | {"milliseconds": self.milliseconds}


def find_photos(sources: Sequence[str | Path], *, out: Path | None = None) -> list[Path]:
    """The pictures given, and those in the folders given, each once; what an earlier run wrote below `out` is none.

    Raises:
        UsageError: something that is not there, or a folder without pictures.
    """
    found: list[Path] = []
    for source in map(Path, sources):
        if source.is_dir():
            found += images.pictures_below(source, out=out)
        elif source.is_file():
            found.append(source)
        else:
            raise UsageError(f"{source}: no such file or folder; give photos, or folders of them")
    return list(dict.fromkeys(found))


def bundled_photos() -> list[Path]:
    """Photos that scikit-image's package carries; nothing of it is imported.

    Raises:
        UsageError: it is not installed.
    """
    package = importlib.util.find_spec("skimage")
    folders = [] if package is None else package.submodule_search_locations or []
    found = [path for folder in folders for name in _BUNDLED if (path := Path(folder, "data", name)).is_file()]
    if not found:
        raise UsageError("no photos: name some, or pip install scikit-image, which carries a few")
    return found


def paint(
    stylizer: Stylizer, photos: Sequence[Path], *, max_side: int, wishes: Sequence[Wishes] = ({},)
) -> Iterator[Painting]:
    """Repaint each photo at a longest side of `max_side` pixels at most, once for each of `wishes`.

    What cannot be read or is too small is reported and does not stop the others.

    Raises:
        UsageError: wishes that the model cannot fulfil; before the first photo.
    """
    settled = [stylizer.inputs(**each) for each in wishes]
    painted: set[tuple[int, int]] = set()  # at these sizes there is no first time any more
    for path in photos:
        try:
            yield _paint(stylizer, path, max_side, settled, painted)
        except FstError as error:
            yield Painting(path, error=str(error))


def _paint(
    stylizer: Stylizer, path: Path, max_side: int, settled: Sequence[dict[str, Value]], painted: set[tuple[int, int]]
) -> Painting:
    pixels = np.asarray(images.read_rgb(path))
    height, width = pixels.shape[:2]
    plan = stylizer.plan(images.fit_within((width, height), max_side))
    if min(plan.size) < SMALLEST_PX:
        made = "" if plan.size == (width, height) else f" becomes {plan.size[0]}x{plan.size[1]} px and"
        raise UsageError(
            f"{path} ({width}x{height} px){made} is too small: {SMALLEST_PX} px at least are needed each way"
        )
    pixels = images.resize(pixels, plan.size)
    if plan.size not in painted:
        stylizer.repaint(pixels, plan, **settled[0])
        painted.add(plan.size)
    started = time.perf_counter()
    results = [stylizer.repaint(pixels, plan, **each) for each in settled]
    milliseconds = (time.perf_counter() - started) * 1e3 / len(results)
    return Painting(path, pixels, results, milliseconds, plan.note)


def medians(rows: Sequence[Result]) -> Result:
    """The median of each score over the photos that were painted; {} where there are none.

    Where half of the photos took more Gatys iterations than there were, it is None, "more"; else rounded up.
    """
    found: Result = {name: median(values) for name, values in _scores(rows).items()}
    if (count := found.get("gatys_iterations")) is not None:
        found["gatys_iterations"] = None if math.isinf(count) else math.ceil(count)
    return found


def means(rows: Sequence[Result]) -> Result:
    """The mean of each score over the photos that were painted, but for Gatys iterations; {} where there are none."""
    return {name: fmean(values) for name, values in _scores(rows).items() if name != "gatys_iterations"}


def _scores(rows: Sequence[Result]) -> dict[str, list[float]]:
    """By name, photo by photo; None, more iterations than there were, is infinite."""
    painted = [row for row in rows if "error" not in row]
    names = [name for name in (painted[0] if painted else {}) if name not in _NO_SCORES]
    return {name: [math.inf if row[name] is None else row[name] for row in painted] for name in names}

"""What a sweep ends with: a table, and a page of pictures."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from fst import page
from fst.files import whole_file
from fst.page import Cell, Grid
from fst.training.loggers import read_metrics

_SCORES = ("val/content", "val/style", "val/total")
_ABREAST = 3  # runs in a row, where no settings are its axes


def summarize(folder: Path, overrides: dict[str, list[str]], *, adjustable: bool = False) -> list[dict[str, str]]:
    """One row a run: its folder, what set it apart, and the last of its scores; also written to summary.csv.

    Beside it index.html shows the last preview of each run, see `grid`.

    Args:
        folder: of the sweep.
        overrides: of each run, by the name of its folder.
        adjustable: whether the pictures show more than full strength.
    """
    rows = []
    common = set.intersection(*(set(values) for values in overrides.values())) if overrides else set()
    apart = {name: [value for value in values if value not in common] for name, values in overrides.items()}
    for name, settings in apart.items():
        last: dict[str, float] = {}
        for metrics in read_metrics(folder / name / "metrics.csv"):
            last |= metrics
        row = {"run": name, "settings": " ".join(settings) or "-"}
        row |= {"step": f"{last['step']:.0f}" if "step" in last else "-"}
        rows.append(row | {score: f"{last[score]:.4f}" if score in last else "-" for score in _SCORES})
    if rows:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        with whole_file(folder / "summary.csv") as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8", errors="replace", newline="")
        notes = [f"for all: {' '.join(sorted(common))}"] if common else []
        adjusted = ", last at half strength, with small and with large strokes" if adjustable else ""
        notes.append(f"photos above, repainted below{adjusted}; scores are of the validation photos at full strength")
        cells = [_cell(folder, row) for row in rows]
        page.write(folder / "index.html", f"sweep of {len(rows)} runs", notes, [grid(list(apart.values()), cells)])
    return rows


def grid(settings: Sequence[Sequence[str]], cells: Sequence[Cell]) -> Grid:
    """The runs of a sweep side by side: with axes where one or two keys vary, else a few in a row.

    Args:
        settings: what sets each run apart, "loss.style_weight=5".
        cells: of each run, in the same order.
    """
    places = [tuple(each) for each in settings]
    keys = [tuple(word.partition("=")[0] for word in place) for place in places]
    count = len(keys[0])
    if not 1 <= count <= 2 or set(keys) != {keys[0]} or len(set(keys[0])) != count or len(set(places)) != len(places):
        rows = [("", cells[start : start + _ABREAST]) for start in range(0, len(cells), _ABREAST)]
        return Grid(["", *[""] * min(_ABREAST, len(cells))], rows, "runs")
    at = dict(zip(places, cells, strict=True))
    across = list(dict.fromkeys(place[-1] for place in places))
    down = list(dict.fromkeys(place[:-1] for place in places))
    rows = [(" ".join(head), [at.get((*head, each), Cell()) for each in across]) for head in down]
    return Grid(["", *across], rows, "runs")


def _cell(folder: Path, row: dict[str, str]) -> Cell:
    settings = "" if row["settings"] == "-" else f" {row['settings']}"
    lines = [
        row["run"] + settings,
        f"step {row['step']}",
        *(f"{score.partition('/')[2]} {row[score]}" for score in _SCORES),
    ]
    preview = PurePath(row["run"], "preview.png")
    if not (folder / preview).is_file():
        return Cell([*lines, "no picture"])
    return Cell(lines, preview, f"validation photos, and below them as the run {row['run']}{settings} repaints them")


def table(rows: list[dict[str, str]]) -> Any:
    """The rows as a rich table."""
    from rich.markup import escape
    from rich.table import Table

    drawn = Table(box=None)
    for name in rows[0] if rows else ["no runs"]:
        drawn.add_column(name, overflow="fold")
    for row in rows:
        drawn.add_row(*map(escape, row.values()))
    return drawn

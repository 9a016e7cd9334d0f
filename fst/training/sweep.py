"""The table at the end of a sweep."""

import csv
from pathlib import Path
from typing import Any

from fst.files import whole_file
from fst.training.loggers import read_metrics

_SCORES = ("val/content", "val/style", "val/total")


def summarize(folder: Path, overrides: dict[str, list[str]]) -> list[dict[str, str]]:
    """One row a run: its folder, what set it apart, and the last of its scores; also written to summary.csv.

    Args:
        folder: of the sweep.
        overrides: of each run, by the name of its folder.
    """
    rows = []
    common = set.intersection(*(set(values) for values in overrides.values())) if overrides else set()
    for name, values in overrides.items():
        last: dict[str, float] = {}
        for metrics in read_metrics(folder / name / "metrics.csv"):
            last |= metrics
        row = {"run": name, "settings": " ".join(v for v in values if v not in common) or "-"}
        row |= {"step": f"{last['step']:.0f}" if "step" in last else "-"}
        rows.append(row | {score: f"{last[score]:.4f}" if score in last else "-" for score in _SCORES})
    if rows:
        with whole_file(folder / "summary.csv") as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return rows


def table(rows: list[dict[str, str]]) -> Any:
    """The rows as a rich table."""
    from rich.table import Table

    drawn = Table(box=None)
    for name in rows[0] if rows else ["no runs"]:
        drawn.add_column(name, overflow="fold")
    for row in rows:
        drawn.add_row(*row.values())
    return drawn

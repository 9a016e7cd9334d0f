"""`fst styles`: what is ready to use."""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from fst import bundle, card
from fst.commands.arguments import Parser, print_json


def main(argv: Sequence[str]) -> int:
    """Run `fst styles`."""
    made = Parser(
        "fst styles",
        "List the styles that fst carries; each is timed on this machine. MODEL:STYLE is one of several of a model. "
        "Losses are those of photos it never saw, at the size at which it learnt; smaller is closer, between models of "
        "one picture and size. fst show MODEL says more.",
    )
    made.add_argument("--json", action="store_true", help="print as JSON")
    made.add_argument("--no-timing", action="store_true", help="do not measure milliseconds")
    a = made.parse_args(argv)
    rows = [row for name in bundle.shipped() for row in _describe(name, timed=not a.no_timing)]
    if a.json:
        print_json(rows)
        return 0
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None)
    headings = ("style", "title", "artist", "year", "method", "net", "size", "licence", "ms at 512")
    for heading in (*headings, "content loss", "style loss", "takes", "file"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        milliseconds = "" if row["milliseconds_at_512"] is None else f"{row['milliseconds_at_512']:.0f}"
        size = f"{row['size_bytes'] / 1e6:.1f} MB"
        content, style = (_score(row["metrics"], term) for term in ("content", "style"))
        about = (row["name"], row["title"], row["artist"], row["year"], row["method"], row["net"], size, row["license"])
        cells = (*about, milliseconds, content, style)
        further = " ".join("style_image" if name == "style_code" else name for name in row["inputs"])
        table.add_row(*(escape(str(cell or "")) for cell in (*cells, further, row["path"])))
    console = Console(width=10_000)
    Console(width=console.measure(table).maximum).print(table)  # a path that is folded cannot be copied
    return 0


def _score(metrics: dict[str, Any], term: str) -> str:
    """Of held-out photos at the end of training, as checkpoints/README.md gives it."""
    value = metrics.get(f"val/{term}")
    return "" if value is None else f"{value:.3f}"


def _describe(name: str, *, timed: bool) -> list[dict[str, Any]]:
    """A row for each style of a model, named as --style takes it."""
    path = bundle.shipped()[name]
    model_file = bundle.read(path)
    recipe = model_file.recipe
    several = "styles" in recipe.inputs
    model = {
        "path": str(path),
        "size_bytes": path.stat().st_size,
        "sha256": model_file.sha256,
        "recipe": card.made_by(name, recipe),
        "method": recipe.method,
        "net": card.net_name(recipe.net),
        "steps": recipe.steps,
        "metrics": {} if several else recipe.metrics,  # not means over all styles
        "inputs": list(recipe.inputs),
        "milliseconds_at_512": milliseconds(name) if timed else None,
    }
    rows = []
    for style in recipe.styles or [{}]:
        row: dict[str, Any] = {key: style.get(key) for key in ("title", "artist", "year")}
        row = {"name": f"{name}:{style['name']}" if several else name} | row
        rows.append(row | {"license": style.get("license") if several else recipe.license} | model)
    return rows


def milliseconds(model: str, *, side: int = 512, repeats: int = 3) -> float:
    """Median time of repainting a square picture on this machine, after one that does not count."""
    from fst.inference.stylizer import Stylizer

    stylizer, picture, took = Stylizer(model), np.full((side, side, 3), 128, np.uint8), []
    told = stylizer.inputs(style_image=picture if "style_code" in stylizer.recipe.inputs else None)
    for _ in range(repeats + 1):
        started = time.perf_counter()
        stylizer.repaint(picture, None, **told)
        took.append((time.perf_counter() - started) * 1e3)
    return statistics.median(took[1:])

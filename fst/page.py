"""A page to look at, as one HTML file that needs no server: grids of pictures and numbers, or what else is written."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path, PurePath
from typing import NamedTuple
from urllib.parse import quote

from fst.files import whole_file

_STYLE = """\
:root { color-scheme: light dark; --ink: #1d2733; --soft: #5b6875; --paper: #fff; --line: #d9dfe5; --head: #f3f5f7 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9ee; --soft: #9aa5b1; --paper: #14181d; --line: #323a43; --head: #1d232a }
}
body { margin: 2rem; background: var(--paper); color: var(--ink); font: 15px/1.45 system-ui, sans-serif }
h1 { margin: 0 0 .5rem; font-size: 1.5rem }
p { margin: .15rem 0; max-width: 60rem; color: var(--soft); overflow-wrap: anywhere }
.wide { margin-top: 1.5rem; overflow-x: auto }
table { border-collapse: collapse }
caption { padding: .3rem 0; text-align: left; font-weight: 600 }
th, td { padding: .45rem .6rem; border: 1px solid var(--line); text-align: left; vertical-align: top }
th { background: var(--head); font-weight: 600; overflow-wrap: break-word }
td span { display: block; font-variant-numeric: tabular-nums }
.numbers td { text-align: right }
.pictures td { min-width: 13rem }
.pictures th[scope=row] { min-width: 11rem; max-width: 14rem; overflow-wrap: anywhere }
img { display: block; width: 100%; max-width: 32rem; height: auto; margin-bottom: .3rem }
"""


class Cell(NamedTuple):
    """What stands in one place: lines of text, below a picture where there is one.

    Args:
        lines: of text.
        picture: the picture's file, seen from the page's folder.
        alt: the picture in words, for those who do not see it.
    """

    lines: Sequence[str] = ()
    picture: PurePath | None = None
    alt: str = ""


class Grid(NamedTuple):
    """Rows and columns with their headings.

    Args:
        columns: the headings; the first is that of the rows' own headings.
        rows: each its heading and a cell for every further column.
        caption: what the grid shows.
    """

    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    caption: str


def write(path: Path, title: str, notes: Sequence[str], grids: Sequence[Grid]) -> None:
    """Write a page, whole or not at all: a heading, a paragraph for each of `notes`, the grids one below the other.

    Every text is escaped; pictures are linked, not copied.

    Raises:
        FstError: the file cannot be written.
    """
    write_body(path, title, notes, map(_grid, grids))


def write_body(
    path: Path, title: str, notes: Sequence[str], parts: Iterable[str], *, style: str = "", script: str = ""
) -> None:
    """Write a page as `write` does, with parts of HTML in the place of grids.

    Args:
        path, title, notes: as there.
        parts: in their order.
        style: CSS that is added.
        script: JavaScript that runs when the page is there.

    Raises:
        FstError: the file cannot be written.
    """
    body = [f"<h1>{escape(title)}</h1>", *(f"<p>{escape(note)}</p>" for note in notes), *parts]
    body += [f"<script>\n{script}</script>"] if script else []
    text = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE}{style}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")  # a file's name may be no Unicode


def image(place: PurePath, alt: str, attributes: str = "") -> str:
    """An img of a file seen from the page's folder; further attributes are HTML."""
    return f'<img src="{_address(place)}" alt="{escape(alt)}" loading="lazy"{attributes and " " + attributes}>'


def _address(place: PurePath) -> str:
    return escape(quote(place.as_posix(), errors="surrogateescape"))


def _grid(grid: Grid) -> str:
    pictures = any(cell.picture for _, cells in grid.rows for cell in cells)
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in grid.columns)
    lines = [f"<caption>{escape(grid.caption)}</caption>", f"<thead><tr>{head}</tr></thead>", "<tbody>"]
    for heading, cells in grid.rows:
        lines += [f'<tr><th scope="row">{escape(heading)}</th>', *map(_cell, cells), "</tr>"]
    kind = "pictures" if pictures else "numbers"
    return "\n".join([f'<div class="wide"><table class="{kind}">', *lines, "</tbody></table></div>"])


def _cell(cell: Cell) -> str:
    shown = ""
    if cell.picture is not None:
        shown = f'<a href="{_address(cell.picture)}">{image(cell.picture, cell.alt)}</a>'
    return f"<td>{shown}{''.join(f'<span>{escape(line)}</span>' for line in cell.lines)}</td>"

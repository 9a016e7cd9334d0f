"""`fst gallery`: a page of styles and photos."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fst.commands.arguments import Parser, print_json
from fst.commands.evaluate import add_material, exit_code, say_of
from fst.commands.progress import display

_EPILOG = """
examples:
  fst gallery --content PHOTOS -o gallery/
  fst gallery --content a.jpg b.jpg --style starry_night mine.onnx four.onnx:wave
  fst gallery --content PHOTOS --style any --style-image painting.jpg other.jpg

The page needs no server and fetches nothing: open DIR/index.html, or send DIR. A slider lays the photo bare below its
repainting; another one sets the strength where the model has it, between pictures painted at 0, 0.25, 0.5, 0.75 and 1.
A model of many results shows three of them. Of a style that was learnt from a picture of a name that fst knows, that
picture is shown, too, where it is found.
"""


def parser() -> argparse.ArgumentParser:
    """The arguments of `fst gallery`."""
    made = Parser("fst gallery", "Show styles on photos, before and after, on one page.", epilog=_EPILOG)
    add_material(made, bundled=True)
    made.add_argument(
        "--style",
        "-s",
        nargs="+",
        action="extend",
        metavar="MODEL[:STYLE]",
        help="shipped styles (fst styles) or model files, of several styles each (all that are shipped)",
    )
    made.add_argument(
        "--style-image",
        nargs="+",
        action="extend",
        metavar="PICTURE",
        help="what a model paints like that takes any picture, each a style of its own; without one it is left out",
    )
    made.add_argument(
        "--out", "-o", type=Path, metavar="DIR", help="write a page, index.html, and results.json here (%(default)s)"
    )
    made.set_defaults(out=Path("gallery"))
    return made


def main(argv: Sequence[str]) -> int:
    """Run `fst gallery`."""
    a = parser().parse_args(argv)
    from fst import bundle
    from fst.evaluation import gallery
    from fst.evaluation.gallery_page import GalleryPage
    from fst.evaluation.page import Folder
    from fst.evaluation.paintings import bundled_photos, find_photos

    folder = Folder(a.out, overwrite=a.overwrite)
    photos = find_photos(a.content or bundled_photos(), out=a.out)
    exhibits = gallery.plan(a.style or list(bundle.shipped()), a.style_image or (), say=_say)
    made, shown = GalleryPage(folder, exhibits), display(quiet=a.json)
    rows: list[list[dict[str, Any]]] = [[] for _ in exhibits]
    errors: set[str | None] = {None}
    try:
        for style, photo, painting in gallery.paint_all(exhibits, photos, max_side=a.max_side):
            rows[style].append(painting.described())
            if style == 0 or painting.error not in errors:
                say_of(painting)
            errors.add(painting.error)
            made.add(style, photo, painting)
            done, steps = style * len(photos) + photo + 1, len(exhibits) * len(photos)
            shown.show("painting", "photo", done, steps, f"{painting.path.name} by {exhibits[style].name}")
    finally:
        shown.close()
    styles = [each.described() | {"photos": rows_of} for each, rows_of in zip(exhibits, rows, strict=True)]
    result = {"max_side": a.max_side, "notes": [f"photos of {a.max_side} px at most"], "styles": styles}
    where = made.write(result)
    if a.json:
        print_json(result)
    else:
        print(where)
    return exit_code(row for rows_of in rows for row in rows_of)


def _say(line: str) -> None:
    print(f"fst: {line}", file=sys.stderr)

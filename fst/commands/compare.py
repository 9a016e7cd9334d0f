"""`fst compare`: models beside each other."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fst.commands.arguments import Parser, print_json
from fst.commands.evaluate import add_material, add_scoring, exit_code, print_table, say_of
from fst.commands.progress import display
from fst.commands.train import require_training
from fst.errors import UsageError

_EPILOG = """
examples:
  fst compare starry_night mine.onnx four.onnx:wave --content PHOTOS -o comparison/
  fst compare runs/a/mine.onnx runs/b/mine.onnx --content PHOTOS --scores --style-image mine.jpg

Scores are those of fst eval.
"""


def parser() -> argparse.ArgumentParser:
    """The arguments of `fst compare`."""
    made = Parser("fst compare", "Show photos as several models repaint them, on a page.", epilog=_EPILOG)
    made.add_argument("models", nargs="+", metavar="MODEL[:STYLE]", help="shipped styles (fst styles) or model files")
    add_material(made)
    made.add_argument("--scores", action="store_true", help="score them, too, each by the style that it learnt")
    add_scoring(made)
    made.add_argument(
        "--out", "-o", type=Path, metavar="DIR", help="write a page, index.html, and results.json here (%(default)s)"
    )
    made.set_defaults(out=Path("comparison"))
    return made


def main(argv: Sequence[str]) -> int:
    """Run `fst compare`."""
    a = parser().parse_args(argv)
    if not a.scores and (a.perceptual or a.padding != "replicate" or a.style_size):
        raise UsageError("--perceptual, --padding and --style-size say how --scores are taken: add --scores")
    from fst.evaluation import page
    from fst.evaluation.compare import compare
    from fst.evaluation.paintings import find_photos, medians
    from fst.inference.stylizer import Stylizer

    folder = page.Folder(a.out, overwrite=a.overwrite)
    photos = find_photos(a.content, out=a.out)
    stylizers = [Stylizer(model) for model in a.models]
    if a.style_image and not a.scores and not any("style_code" in each.recipe.inputs for each in stylizers):
        raise UsageError("--style-image says by what --scores are taken: add --scores")
    shown, judge, notes = display(quiet=a.json), None, [f"photos of {a.max_side} px at most"]
    made = page.ComparePage(folder, a.models, len(photos))
    rows: list[list[dict[str, Any]]] = [[] for _ in a.models]
    errors: set[tuple[Path, str]] = set()
    try:
        if a.scores:
            require_training()
            from fst.evaluation.scores import Judge

            judge = Judge(a.perceptual, shown.transfer, padding=a.padding)
            notes.append(judge.says)
        for model, photo, painting, row in compare(
            stylizers,
            photos,
            max_side=a.max_side,
            judge=judge,
            style_image=a.style_image,
            style_size_px=a.style_size,
            say=notes.append,
        ):
            rows[model].append(row)
            if painting.error is None:
                if model == 0:
                    say_of(painting)
            elif (painting.path, painting.error) not in errors:  # a photo that none can read is said once
                errors.add((painting.path, painting.error))
                whose = "" if str(painting.path) in painting.error else f"{painting.path} by {a.models[model]}: "
                print(f"fst: {whose}{painting.error}", file=sys.stderr)
            made.add(model, photo, painting, row)
            done, steps = model * len(photos) + photo + 1, len(a.models) * len(photos)
            shown.show("painting", "picture", done, steps, f"{painting.path.name} by {a.models[model]}")
    finally:
        shown.close()
    models = [
        {"model": name, "path": str(stylizer.path), "photos": photos_of, "median": medians(photos_of)}
        for name, stylizer, photos_of in zip(a.models, stylizers, rows, strict=True)
    ]
    result = {"max_side": a.max_side, "perceptual": judge and judge.described(), "notes": notes, "models": models}
    where = made.write(result)
    if a.json:
        print_json(result)
    else:
        print("\n".join(notes))
        print_table(*page.median_table(a.models, [medians(each) for each in rows]))
        print(where)
    return exit_code(row for rows_of in rows for row in rows_of)

"""`fst eval`: how good a model is."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fst.commands.arguments import Parser, add_wishes, print_json, whole, wished
from fst.commands.progress import display
from fst.commands.train import require_training
from fst.errors import UsageError

if TYPE_CHECKING:
    from fst.commands.progress import Bar, Lines
    from fst.evaluation.evaluate import Progress
    from fst.evaluation.paintings import Painting

_EPILOG = """
examples:
  fst eval starry_night --content PHOTOS
  fst eval my_style.onnx --content PHOTOS --style-image painting.jpg -o scores/
  fst eval starry_night --content a.jpg b.jpg --max-side 256 --reference gatys:100 -o scores/
  fst eval four.onnx:wave --content PHOTOS --strength 0.5 --json

Every model is scored alike: by the losses and layers of fst train's loss=default, whatever it was trained with.
  content, style      0 is the best; 1 is what a picture without any features would score. photo's own is the style
                      loss of the unpainted photo, and share what the network leaves of it: 40% is a fall by 60%
  total, tv           0.1 content + style; roughness over that of the style's picture
  SSIM                likeness of luma to the photo (Wang et al. 2004), 1 is equal
  ms                  one repainting, after a first that does not count
  pixel distance, perceptual distance
                      of --variations, over all pairs of the pictures of a photo: mean absolute difference of RGB in
                      [0, 1]; difference of the features at the layers above, 0 equal, 1 nothing in common
  Gatys iterations    of --reference: so many steps of Adam on the photo's own pixels bring the total as low
  times reference     total over the lowest of the reference: 1 is as good, below 1 is better

Style is scored by the full style at any --strength, and seen as large as --stroke asks for.
Numbers of VGG-19 and of lite, fst's small stand-in, are not to be compared; a line says which it was.
"""


def parser() -> argparse.ArgumentParser:
    """The arguments of `fst eval`."""
    made = Parser("fst eval", "Score a model's repaintings, and show them on a page.", epilog=_EPILOG)
    made.add_argument("model", metavar="MODEL[:STYLE]", help="a shipped style (fst styles) or a model file")
    add_material(made)
    add_scoring(made)
    add_wishes(made)
    made.add_argument(
        "--variations",
        type=whole(2),
        metavar="N",
        help="paint each photo in N ways, where the model can, and say how much they differ",
    )
    made.add_argument("--seed", type=whole(0), default=0, metavar="N", help="of the variations (%(default)s)")
    made.add_argument("--diversity", type=float, metavar="D", help="of those of any style, from 0 to 1 (0.7)")
    made.add_argument(
        "--reference",
        type=_reference,
        metavar="gatys:ITER",
        help="say how many of ITER iterations of gradient descent the model is worth; seconds each",
    )
    made.add_argument("--out", "-o", type=Path, metavar="DIR", help="write a page, index.html, and results.json here")
    return made


def add_material(made: argparse.ArgumentParser, *, bundled: bool = False) -> None:
    """The arguments that say what is painted and what becomes of it; `bundled` photos make up for none."""
    made.add_argument(
        "--content",
        nargs="+",
        type=Path,
        required=not bundled,
        metavar="PHOTO",
        help="photos, or folders of them" + (" (those of scikit-image, where it is installed)" if bundled else ""),
    )
    made.add_argument(
        "--max-side",
        type=whole(16, unit=" pixels"),
        default=512,
        metavar="PX",
        help="make larger photos smaller first (%(default)s)",
    )
    made.add_argument("--overwrite", action="store_true", help="replace a page that exists")
    made.add_argument("--json", action="store_true", help="print everything as JSON, and nothing else")


def add_scoring(made: argparse.ArgumentParser) -> None:
    """The arguments that say by what it is scored."""
    made.add_argument(
        "--style-image",
        type=Path,
        metavar="PICTURE",
        help="the style's picture, of a model of any style also to paint like (the one that the model learnt, where "
        "fst knows its name and finds it)",
    )
    made.add_argument(
        "--style-size",
        nargs="+",
        type=whole(32, unit=" pixels"),
        metavar="PX",
        help="longest side at which the style is seen; several are averaged (as the model learnt it, else 512)",
    )
    made.add_argument(
        "--perceptual", choices=("vgg19", "lite"), help="which network looks (VGG-19 where its weights are, else lite)"
    )
    made.add_argument(
        "--padding",
        choices=("replicate", "zeros"),
        default="replicate",
        help="what VGG-19 sees beyond the border: zeros, as in most projects' scores (%(default)s, as in training)",
    )


def main(argv: Sequence[str]) -> int:
    """Run `fst eval`."""
    a = parser().parse_args(argv)
    wishes = wished(a, "MODEL", a.model)
    require_training()
    from fst import images
    from fst.evaluation import page
    from fst.evaluation.evaluate import evaluate, summarize
    from fst.evaluation.paintings import find_photos
    from fst.evaluation.scores import Judge
    from fst.evaluation.wanted import find_styles
    from fst.inference.stylizer import Stylizer
    from fst.inference.variations import draw
    from fst.inputs import KINDS

    folder = None if a.out is None else page.Folder(a.out, overwrite=a.overwrite)
    photos = find_photos(a.content, out=a.out)
    stylizer = Stylizer(a.model)
    wishes |= {"style_image": a.style_image} if "style_code" in stylizer.recipe.inputs else {}
    inputs = stylizer.inputs(**wishes)
    if a.variations:
        draw(stylizer.recipe.inputs, a.seed, 0, diversity=a.diversity, model=stylizer.recipe.name)
    elif a.diversity is not None:
        raise UsageError("--diversity goes with --variations N")
    styles = find_styles(stylizer.recipe, inputs, image=a.style_image, size_px=a.style_size)
    name, iterations, shown, rows = stylizer.recipe.name, a.reference or 0, display(quiet=a.json), []
    try:
        judge = Judge(a.perceptual, shown.transfer, padding=a.padding)
        made = folder and page.ScorePage(
            folder,
            name,
            [(style.name, style.says, images.to_uint8(style.pictures[0].numpy())) for style in styles],
            iterations=iterations,
        )
        for scored in evaluate(
            stylizer,
            photos,
            styles,
            judge,
            max_side=a.max_side,
            wishes=wishes,
            variations=a.variations or 0,
            seed=a.seed,
            diversity=a.diversity,
            iterations=iterations,
            on_progress=partial(_show, shown, iterations),
        ):
            rows.append(scored.row)
            say_of(scored.painting)
            if made:
                reference = None if scored.reference is None else scored.reference.picture
                made.add(scored.painting, scored.row, reference)
    finally:
        shown.close()
    result = summarize(
        rows,
        stylizer,
        styles,
        judge,
        settings={
            "max_side": a.max_side,
            "inputs": {name: value for name, value in inputs.items() if not KINDS[name].vector},
            "variations": a.variations,
            "seed": a.seed,
            "diversity": a.diversity,
        }
        | {"reference": f"gatys:{iterations}" if iterations else None},
    )
    where = made.write(result) if made else None
    if a.json:
        print_json(result)
    else:
        print("\n".join(result["notes"]))
        print_table(*page.score_table(rows, result["median"], iterations=iterations))
        if where is not None:
            print(where)
    return exit_code(rows)


def say_of(painting: "Painting") -> None:
    """Tell what is wrong with a photo, or why it was painted smaller."""
    if painting.error is not None:
        print(f"fst: {painting.error}", file=sys.stderr)
    elif painting.note is not None:
        print(f"fst: {painting.path}: {painting.note}", file=sys.stderr)


def exit_code(rows: Iterable[dict[str, Any]]) -> int:
    """1 where a photo could not be painted."""
    return 1 if any("error" in row for row in rows) else 0


def print_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print a table whose first column is text and whose others are numbers."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == 0 else "right", no_wrap=True)
    for line in lines:
        table.add_row(*map(escape, line))
    console = Console(width=10_000, highlight=False)
    Console(width=console.measure(table).maximum, highlight=False).print(table)


def _show(shown: "Bar | Lines", iterations: int, at: "Progress") -> None:
    """A bar over the iterations of all photos; without a reference, over the photos."""
    if not iterations:
        shown.show("scoring", "photo", at.photo, at.photos, at.path.name)
    elif at.iteration:
        done = (at.photo - 1) * iterations + at.iteration
        shown.show("scoring", "iteration", done, at.photos * iterations, f"{at.path.name}  total {at.total:.4f}")


def _reference(text: str) -> int:
    kind, _, count = text.partition(":")
    if kind != "gatys" or not count.isdecimal() or int(count) < 1:
        raise argparse.ArgumentTypeError(f"is gatys:ITER, with 1 iteration or more, like gatys:100, not {text}")
    return int(count)

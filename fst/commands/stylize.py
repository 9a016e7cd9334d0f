"""`fst stylize`: repaint photos."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fst.commands.arguments import Parser, add_wishes, print_json, whole, wished
from fst.errors import UsageError

if TYPE_CHECKING:
    from fst.inference.stylizer import Stylizer

_EXAMPLES = """
examples:
  fst stylize photo.jpg --style starry_night -o out/
  fst stylize holiday/ portrait.png --style my_style.onnx -o out/ --keep-colors
  fst stylize photo.jpg --style starry_night -o painted.png --max-side 1080
  fst stylize photo.jpg --style my_style.onnx --strength 0.6 --stroke 1.5
  fst stylize photo.jpg --style four.onnx:wave
  fst stylize photo.jpg --style four.onnx --mix wave=0.7,udnie=0.3

--style names a model. One that has learnt several styles (fst styles lists each as MODEL:STYLE) paints its first, or
the one after the colon, or what --mix makes of them. What a model was not trained for is refused.

Pictures keep their size, orientation and transparency. A picture that would not fit into memory (about 0.5 GB per
megapixel for a Johnson network) is painted at the largest size that does, and a line says so.
"""


def parser() -> argparse.ArgumentParser:
    """The arguments of `fst stylize`."""
    made = Parser("fst stylize", "Repaint photos with a style.", epilog=_EXAMPLES)
    made.add_argument("inputs", nargs="+", metavar="PHOTO", help="pictures, or folders of them")
    made.add_argument(
        "--style",
        "-s",
        default="starry_night",
        metavar="MODEL[:STYLE]",
        help="a shipped style (fst styles) or a model file (%(default)s)",
    )
    add_wishes(made)
    made.add_argument(
        "--out", "-o", default="stylized", metavar="OUT", help="a folder, or a picture's name (%(default)s/)"
    )
    made.add_argument("--keep-colors", action="store_true", help="keep the photo's colours, take the strokes only")
    made.add_argument("--max-side", type=whole(1), metavar="PX", help="make larger pictures smaller first")
    made.add_argument("--quality", type=whole(1, 100), default=95, help="of JPEG and WebP, 1 to 100 (%(default)s)")
    made.add_argument("--overwrite", action="store_true", help="replace files that exist")
    made.add_argument("--threads", type=whole(1), metavar="N", help="processor threads (all cores)")
    made.add_argument(
        "--provider", metavar="NAME", help="cpu, cuda, tensorrt, coreml or directml (the best there is, but tensorrt)"
    )
    made.add_argument(
        "--backend",
        choices=("onnx", "torch"),
        default="onnx",
        help="torch, for a GPU, also takes a run's folder, .ckpt, .safetensors and .pt2 (only your own: a .pt2 can run "
        "code); %(default)s",
    )
    made.add_argument("--json", action="store_true", help="print what was done as JSON")
    return made


def main(argv: Sequence[str]) -> int:
    """Run `fst stylize`."""
    from fst.inference import batch

    a = parser().parse_args(argv)
    jobs = batch.plan(a.inputs, a.out, overwrite=a.overwrite)
    wishes = wished(a, "--style", a.style)
    stylizer = _stylizer(a)
    done: list[dict[str, Any]] = []
    failed = 0
    for outcome in _with_bar(batch.run(jobs, stylizer, quality=a.quality, **wishes), len(jobs)):
        source, target = str(outcome.job.source), str(outcome.job.target)
        if outcome.error is not None:
            failed += 1
            done.append({"input": source, "error": outcome.error})
            print(f"fst: {outcome.error}", file=sys.stderr)
            continue
        width, height = outcome.size
        entry = {"input": source, "output": target, "width": width, "height": height}
        done.append(entry | {"milliseconds": round(outcome.milliseconds, 1), "note": outcome.note})
        if outcome.note:
            print(f"fst: {source}: {outcome.note}", file=sys.stderr)
        if not a.json:
            print(target)
    if a.json:
        told = {"style": stylizer.recipe.name, "model": str(stylizer.path), "inputs": stylizer.inputs(**wishes)}
        print_json(told | {"pictures": done})
    return 1 if failed else 0


def _stylizer(a: argparse.Namespace) -> "Stylizer":
    from fst import bundle
    from fst.inference.stylizer import Stylizer

    file, style = bundle.split_style(a.style)
    if a.backend == "onnx":
        if file.endswith(".pt2"):
            raise UsageError(f"{a.style}: for --backend torch; a .pt2 can run code, so open only your own")
        return Stylizer(a.style, keep_colors=a.keep_colors, max_side=a.max_side, threads=a.threads, provider=a.provider)
    from fst.commands.train import require_training

    require_training()
    from fst.export import model
    from fst.inference.torch_backend import TorchStylizer

    path = Path(file) if Path(file).exists() else bundle.locate(file)
    net, recipe = model.read(path)
    return TorchStylizer(
        net,
        recipe,
        path=path,
        style=style,
        device=a.provider,
        keep_colors=a.keep_colors,
        max_side=a.max_side,
        threads=a.threads,
    )


def _with_bar(outcomes: Iterable[Any], count: int) -> Iterator[Any]:
    """A progress bar for several pictures, where somebody is watching."""
    if count < 3 or not sys.stderr.isatty():
        yield from outcomes
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(outcomes, "repainting", total=count, console=Console(stderr=True), transient=True)

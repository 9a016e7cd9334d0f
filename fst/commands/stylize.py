"""`fst stylize`: repaint photos."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fst.commands.arguments import Parser, add_wishes, print_json, whole, wished
from fst.errors import UsageError
from fst.inputs import KINDS, STYLE_SIZES_PX

if TYPE_CHECKING:
    from fst.inference.regions import Regions
    from fst.inference.stylizer import Stylizer

_EXAMPLES = """
examples:
  fst stylize photo.jpg --style starry_night -o out/
  fst stylize holiday/ portrait.png --style my_style.onnx -o out/ --keep-colors
  fst stylize photo.jpg --style starry_night -o painted.png --max-side 1080
  fst stylize photo.jpg --style my_style.onnx --strength 0.6 --stroke 1.5
  fst stylize photo.jpg --style four.onnx:wave
  fst stylize photo.jpg --style four.onnx --mix wave=0.7,udnie=0.3
  fst stylize photo.jpg --style any.onnx --style-image painting.jpg
  fst stylize photo.jpg --style any.onnx --style-image a.jpg b.jpg --style-weights 0.7,0.3
  fst stylize photo.jpg --style any.onnx --style-image a.jpg b.jpg --mask sky.png
  fst stylize photo.jpg --style many.onnx --variations 6 --seed 0

--style names a model. One that has learnt several styles (fst styles lists each as MODEL:STYLE) paints its first, or
the one after the colon, or what --mix makes of them. One of method=adain paints like any picture: --style-image. One
of method=diverse, or of method=adain with net.transfer=wct, paints a photo in as many ways as --variations asks for:
photo_1.jpg, photo_2.jpg and so on. What a model was not trained for is refused.

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
        "--style-image",
        nargs="+",
        action="extend",
        metavar="PICTURE",
        help="paint like this, where a model can (name photos before it); several are mixed, or have a --mask each",
    )
    made.add_argument("--style-weights", type=_weights, metavar="W,W", help="of the style pictures; sum to 1 (equal)")
    made.add_argument(
        "--style-size",
        type=whole(*STYLE_SIZES_PX),
        metavar="PX",
        help="longest side at which a style picture is seen: larger, larger strokes (512)",
    )
    made.add_argument(
        "--mask",
        nargs="+",
        action="extend",
        metavar="PICTURE",
        help="where each style picture's style goes, white on black; the last may do without, for the rest",
    )
    made.add_argument("--variations", type=whole(1), metavar="N", help="paint each photo in so many ways")
    made.add_argument("--seed", type=whole(0), metavar="N", help="which ways: the same number, the same pictures (0)")
    made.add_argument(
        "--diversity", type=float, metavar="D", help="how much they differ, from 0 to 1, of any style (0.7)"
    )
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
    jobs = batch.plan(a.inputs, a.out, overwrite=a.overwrite, variations=a.variations)
    wishes = wished(a, "--style", a.style) | {"style_image": _mixed_pictures(a)}
    stylizer = _in_regions(_stylizer(a), a)
    seed = 0 if a.seed is None and a.variations is not None else a.seed
    if seed is None and a.diversity is not None:
        raise UsageError("--diversity goes with --variations N")
    done: list[dict[str, Any]] = []
    failed = 0
    outcomes = batch.run(jobs, stylizer, quality=a.quality, seed=seed, diversity=a.diversity, **wishes)
    for outcome in _with_bar(outcomes, len(jobs)):
        source, target = str(outcome.job.source), str(outcome.job.target)
        if outcome.error is not None:
            failed += 1
            done.append({"input": source, "error": outcome.error})
            print(f"fst: {outcome.error}", file=sys.stderr)
            continue
        width, height = outcome.size
        entry = {"input": source, "output": target, "width": width, "height": height}
        if seed is not None:
            entry["number"] = outcome.job.number
        done.append(entry | {"milliseconds": round(outcome.milliseconds, 1), "note": outcome.note})
        if outcome.note:
            print(f"fst: {source}: {outcome.note}", file=sys.stderr)
        if not a.json:
            print(target)
    if a.json:
        told = {"style": stylizer.recipe.name, "model": str(stylizer.path)}
        told |= {"style_images": a.style_image} if a.style_image else {}
        inputs = {name: value for name, value in stylizer.inputs(**wishes).items() if not KINDS[name].vector}
        print_json(told | {"inputs": inputs} | ({} if seed is None else {"seed": seed}) | {"pictures": done})
    return 1 if failed else 0


def _stylizer(a: argparse.Namespace) -> "Stylizer":
    from fst import bundle
    from fst.inference.stylizer import Stylizer

    file, style = bundle.split_style(a.style)
    options = {"keep_colors": a.keep_colors, "max_side": a.max_side, "threads": a.threads}
    options |= {} if a.style_size is None else {"style_size": a.style_size}
    if a.backend == "onnx":
        if file.endswith(".pt2"):
            raise UsageError(f"{a.style}: for --backend torch; a .pt2 can run code, so open only your own")
        return Stylizer(a.style, provider=a.provider, **options)
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
        **options,
    )


def _mixed_pictures(a: argparse.Namespace) -> list[tuple[str, float]] | None:
    """The style pictures with their weights, where they are to be mixed."""
    count = len(a.style_image or ())
    for option in ("style_weights", "style_size", "mask"):
        if getattr(a, option) is not None and not count:
            raise UsageError(f"--{option.replace('_', '-')} goes with --style-image PICTURE")
    if a.style_weights is not None and a.mask is not None:
        raise UsageError("--style-weights mixes styles everywhere and --mask gives each its place: choose one")
    if a.mask is not None or not count:
        return None
    weights = [1 / count] * count if a.style_weights is None else a.style_weights
    if len(weights) != count:
        raise UsageError(f"--style-weights has {len(weights)} numbers and --style-image {count} pictures")
    return list(zip(a.style_image, weights, strict=True))


def _in_regions(stylizer: "Stylizer", a: argparse.Namespace) -> "Stylizer | Regions":
    if a.mask is None:
        return stylizer
    from fst.inference.regions import Regions, read_mask

    return Regions(stylizer, a.style_image, [read_mask(mask) for mask in a.mask])


def _with_bar(outcomes: Iterable[Any], count: int) -> Iterator[Any]:
    """A progress bar for several pictures, where somebody is watching."""
    if count < 3 or not sys.stderr.isatty():
        yield from outcomes
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(outcomes, "repainting", total=count, console=Console(stderr=True), transient=True)


def _weights(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"is a number for each style picture, like 0.7,0.3, not {text}") from None

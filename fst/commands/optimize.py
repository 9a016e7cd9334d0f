"""`fst optimize`: paint one photo by gradient descent on its pixels."""

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fst.commands.arguments import Parser, above_zero, print_json, whole
from fst.commands.progress import display
from fst.commands.train import require_training
from fst.errors import FstError, UsageError

if TYPE_CHECKING:
    import torch

    from fst.download import DownloadProgress
    from fst.images import Picture, Pixels
    from fst.optimize.pixels import Iterate
    from fst.perceptual.losses import PerceptualLoss

_REFRESH_SECONDS = 5
_SHARE = 0.9  # of the free memory
_HELP = """
examples:
  fst optimize photo.jpg painting.jpg -o painted.png
  fst optimize photo.jpg painting.jpg -o painted.png --size 1024 --time-budget 600
  fst optimize photo.jpg wave.jpg night.jpg --mix 2,1 -o painted.png --keep-colors matched
  fst optimize photo.jpg painting.jpg -o painted.png --init noise --style-distances gram,wasserstein

No training: the pixels themselves are changed until VGG-19 sees the photo's content and the paintings' style in them
(Gatys et al. 2016), first in a small picture, then in larger ones. Weights mean what they mean in fst train. OUT is
there from the first iteration on and is refreshed every 5 seconds: look at it while it grows. Ctrl-C keeps it.

Memory grows with the pixels; a photo of 3:2 takes about
"""


def parser() -> argparse.ArgumentParser:
    """The arguments of `fst optimize`."""
    made = Parser("fst optimize", "Paint one photo in a picture's style, without training.", epilog=_epilog())
    made.add_argument("content", type=Path, metavar="CONTENT", help="the photo")
    made.add_argument("styles", nargs="+", type=Path, metavar="STYLE", help="the style's picture; several are mixed")
    made.add_argument("--out", "-o", type=Path, required=True, metavar="OUT", help="the picture to write")
    made.add_argument("--overwrite", action="store_true", help="replace OUT where it exists")
    made.add_argument(
        "--size",
        type=whole(16, unit=" pixels"),
        default=512,
        metavar="PX",
        help="longest side; a smaller photo keeps its own (%(default)s)",
    )
    made.add_argument("--mix", type=_mix, metavar="W,W", help="how much of each of several styles (equal shares)")
    made.add_argument(
        "--style-scale",
        type=above_zero,
        default=1.0,
        metavar="F",
        help="longest side at which a style is seen, over the picture's: larger strokes above 1 (%(default)g)",
    )
    made.add_argument(
        "--keep-colors",
        "--keep-colours",
        choices=("luminance", "matched"),
        help="the photo's colours, with the style's light and dark only, or in a style recoloured like the photo",
    )
    made.add_argument(
        "--iterations",
        type=whole(1),
        default=300,
        metavar="N",
        help="in all; two thirds of them at full size (%(default)s)",
    )
    made.add_argument("--time-budget", type=above_zero, metavar="SECONDS", help="end after about so long, at full size")
    made.add_argument(
        "--init", default="content", metavar="START", help="content, noise, or a picture's file (%(default)s)"
    )
    made.add_argument(
        "--start-size",
        type=whole(16, unit=" pixels"),
        default=128,
        metavar="PX",
        help="longest side of the first of the sizes, sqrt(2) apart; at --size, there is but one (%(default)s)",
    )
    made.add_argument("--optimizer", choices=("lbfgs", "adam"), default="lbfgs", help="%(default)s")
    made.add_argument(
        "--average",
        type=_decay,
        default=0.0,
        metavar="DECAY",
        help="write the average over the iterates, which fades by DECAY each time, and not the best one (%(default)g)",
    )
    for term, weight in (("content", 0.1), ("style", 1.0), ("tv", 0.0)):
        made.add_argument(
            f"--{term}-weight", type=_weight, default=weight, metavar="W", help="of the normalised term (%(default)g)"
        )
    made.add_argument(
        "--style-layers",
        default="relu1_1,relu2_1,relu3_1,relu3_4",
        metavar="LAYERS",
        help="of VGG-19, with weights if you like, relu1_1,relu2_1:2 (%(default)s)",
    )
    made.add_argument("--content-layers", default="relu3_2", metavar="LAYERS", help="the same (%(default)s)")
    made.add_argument(
        "--style-distances",
        default="gram",
        metavar="NAMES",
        help="gram, moments (mean and deviation) or wasserstein, or several, with weights if you like (%(default)s)",
    )
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of --init noise (%(default)s)")
    made.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="%(default)s")
    made.add_argument(
        "--precision",
        choices=("auto", "32-true", "bf16-mixed"),
        default="auto",
        help="auto: bfloat16 where the machine has it",
    )
    made.add_argument("--threads", type=whole(1), metavar="N", help="processor threads (all cores)")
    made.add_argument("--json", action="store_true", help="print what was done as JSON, and nothing else")
    return made


def main(argv: Sequence[str]) -> int:
    """Run `fst optimize`."""
    started = time.monotonic()
    a = parser().parse_args(argv)
    _check_out(a)
    require_training()
    from fst import images
    from fst.training.memory import keep_freed_memory

    keep_freed_memory()
    photo = images.read(a.content)
    photo = _resized(photo, images.fit_within(photo.size, a.size))
    shown, last, stopped, refreshed = display(quiet=a.json), None, False, -math.inf
    try:
        for last in _iterates(a, photo, shown.transfer, started):
            shown.show("painting", "iteration", last.step, last.steps, _numbers(last))
            if time.monotonic() - refreshed >= _REFRESH_SECONDS:
                _write(a, photo, last)
                refreshed = time.monotonic()
    except KeyboardInterrupt:
        if last is None:
            raise
        stopped = True
    except (FstError, MemoryError, RuntimeError) as error:
        kept = "" if refreshed == -math.inf else f"; {a.out} holds the picture as it was before"
        raise _in_one_line(error, kept) from error
    finally:
        shown.close()
    assert last is not None
    _write(a, photo, last)
    height, width = last.size
    if a.json:
        told = {"output": str(a.out), "width": width, "height": height, "iterations": last.step, "stopped": stopped}
        print_json(told | {"seconds": round(last.seconds, 2)} | last.least)
    elif stopped:
        whole = "" if last.scale == last.scales else f", at {width}x{height} and not yet at full size"
        print(f"stopped at iteration {last.step} of {last.steps}: {a.out} is the best picture so far{whole}")
    else:
        print(a.out)
    return 130 if stopped else 0


def _iterates(
    a: argparse.Namespace, photo: "Picture", on_transfer: Callable[["DownloadProgress"], None], started: float
) -> "Iterator[Iterate]":
    import torch

    from fst import images
    from fst.optimize import colors
    from fst.optimize.pixels import optimize
    from fst.perceptual.vgg import VGG19
    from fst.training import precision

    if a.threads:
        torch.set_num_threads(a.threads)
    device = _device(a.device)
    bfloat16 = precision.choose(a.precision, device.type) == "bf16-mixed"
    content = torch.from_numpy(images.to_float(photo.pixels))
    styles = [_style(path, a.style_scale * max(photo.size)) for path in a.styles]
    init = a.init if a.init in ("content", "noise") else torch.from_numpy(images.to_float(_opaque(Path(a.init))))
    if a.keep_colors == "matched":
        styles = [colors.match_colors(style, content) for style in styles]
    elif a.keep_colors == "luminance":
        styles = [colors.match_luminance(style, content) for style in styles]
        content = colors.grey(content)
    loss = _loss(a)
    _check_memory(content, styles, device, bfloat16=bfloat16)
    extractor = VGG19(taps=[*loss.style_layers, *loss.content_layers], on_progress=on_transfer)
    yield from optimize(
        content.to(device),
        styles,
        extractor.to(device, memory_format=torch.channels_last),  # type: ignore[call-overload]
        loss,
        iterations=a.iterations,
        style_weights=a.mix,
        style_scale=a.style_scale,
        start_size=a.start_size,
        init=init,
        optimizer=a.optimizer,
        average=a.average,
        bfloat16=bfloat16,
        max_seconds=a.time_budget and max(0.0, a.time_budget - (time.monotonic() - started)),
        seed=a.seed,
    )


def _loss(a: argparse.Namespace) -> "PerceptualLoss":
    from fst.perceptual.losses import PerceptualLoss
    from fst.perceptual.vgg import check_taps
    from fst.training.overrides import layers

    style, content, distances = (
        layers(getattr(a, name).split(","), "--" + name.replace("_", "-"))
        for name in ("style_layers", "content_layers", "style_distances")
    )
    check_taps([*style, *content])
    return PerceptualLoss(
        style_layers=style,
        content_layers=content,
        content_weight=a.content_weight,
        style_weight=a.style_weight,
        tv_weight=a.tv_weight,
        style_distances=distances,
    )


def _check_out(a: argparse.Namespace) -> None:
    """Refuse an OUT that could not or must not be written."""
    from fst import images

    images.writable_format(a.out)
    if a.out.resolve() in {path.resolve() for path in (a.content, *a.styles, Path(a.init))}:
        raise UsageError(f"{a.out} would be replaced by its own painting: choose another -o")
    if a.out.exists() and not a.overwrite:
        raise UsageError(f"{a.out} exists: --overwrite replaces it")


def _check_memory(
    content: "torch.Tensor", styles: "Sequence[torch.Tensor]", device: "torch.device", *, bfloat16: bool
) -> None:
    """Refuse what the memory cannot hold."""
    import torch

    from fst.inference.memory import available_bytes
    from fst.optimize.memory import needed_bytes

    free = _SHARE * (torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_bytes())
    height, width = content.shape[-2:]
    needed = needed_bytes(height * width, max(style[0, 0].numel() for style in styles), bfloat16=bfloat16)
    if needed > free:
        raise FstError(
            f"{width}x{height} pixels take {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB can be had: make"
            " --size or --style-scale smaller"
        )


def _device(asked: str) -> "torch.device":
    """The device asked for, or the best there is; UsageError where it is absent."""
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    present = [name for name, is_there in there.items() if is_there]
    if asked != "auto" and asked not in present:
        raise UsageError(f"there is no device {asked!r} here; there is {', '.join(present)}")
    return torch.device(present[0] if asked == "auto" else asked)


def _style(path: Path, longest: float) -> "torch.Tensor":
    """A style's picture as large as it will be seen, (1, 3, h, w)."""
    import torch

    from fst import images
    from fst.optimize.pixels import SMALLEST_PX, seen_size

    pixels = _opaque(path)
    height, width = pixels.shape[:2]
    if min(height, width) < SMALLEST_PX:
        raise UsageError(f"{path} is {width}x{height} px: too small for a style; {SMALLEST_PX} px at least each way")
    height, width = seen_size((height, width), longest)
    return torch.from_numpy(images.to_float(images.resize(pixels, (width, height))))


def _opaque(path: Path) -> "Pixels":
    """A picture's pixels, transparency laid on white."""
    import numpy as np

    from fst import images

    return np.asarray(images.read_rgb(path))


def _resized(picture: "Picture", size: tuple[int, int]) -> "Picture":
    from fst import images

    return images.with_pixels(picture, images.resize(picture.pixels, size))


def _write(a: argparse.Namespace, photo: "Picture", iterate: "Iterate") -> None:
    """Write the result so far, with the photo's transparency and profile."""
    from dataclasses import replace

    from fst import images

    pixels = images.to_uint8(iterate.result().cpu().numpy())
    as_large = _resized(photo, (pixels.shape[1], pixels.shape[0]))
    if a.keep_colors == "luminance":
        pixels = images.keep_colors(pixels, as_large.pixels)
    images.write(a.out, replace(as_large, pixels=pixels))


def _numbers(iterate: "Iterate") -> str:
    height, width = iterate.size
    terms = "  ".join(f"{name} {value:.4f}" for name, value in iterate.terms.items() if name != "tv")
    return f"{width}x{height}  {terms}  {iterate.seconds / iterate.step:.2f} s each"


def _in_one_line(error: Exception, kept: str) -> Exception:
    """The error as one of ours where a lack of memory caused it; with what is `kept`."""
    if isinstance(error, FstError):
        return type(error)(f"{error}{kept}")
    line = str(error).splitlines()[0] if str(error) else ""
    if isinstance(error, MemoryError) or "memory" in line:
        return FstError(f"not enough memory ({line}): make --size smaller{kept}")
    return error


def _epilog() -> str:
    from fst.optimize.memory import needed_bytes

    rows = []
    for width, height in ((512, 341), (1024, 683), (2048, 1365)):
        low, high = (needed_bytes(width * height, 0, bfloat16=bfloat16) / 1e9 for bfloat16 in (True, False))
        rows.append(f"  --size {width:<4}  {low:4.1f} GB in bfloat16  {high:4.1f} GB in float32")
    return _HELP + "\n".join(rows)


def _weight(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {text}")
    return value


def _decay(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"goes from 0 to below 1, not {text}")
    return value


def _mix(text: str) -> list[float]:
    try:
        return [_weight(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"is a number for each style, like 2,1, not {text}") from None

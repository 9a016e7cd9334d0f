"""`fst bench`: how fast, how large and how accurate, measured here, beside the plain recipe."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fst.commands.arguments import Parser, print_json, whole
from fst.commands.train import require_training
from fst.errors import UsageError
from fst.files import whole_file

_EXAMPLES = """
examples:
  fst bench train --photos PHOTOS --style-image mine.jpg
  fst bench train --photos PHOTOS --style-image mine.jpg --accuracy-steps 200 --validation OTHERS
  fst bench race --photos PHOTOS --style-image mine.jpg --validation OTHERS --steps 500 --set trainer.max_steps=400
  fst bench infer starry_night --sizes 256x256,512x512,1080x1920
  fst bench start --style starry_night

fst and the plain recipe (float32, eager PyTorch, as the well-known scripts do it) run in turn, each time in a new
process with the same threads; medians and ratios are printed. Nothing else should run meanwhile.
"""


def parser() -> argparse.ArgumentParser:
    """The arguments of `fst bench`."""
    made = Parser("fst bench", "Measure fst beside the plain recipe, on this machine.", epilog=_EXAMPLES)
    jobs = made.add_subparsers(dest="job", required=True, metavar="train|race|infer|start")

    def add(name: str, what: str, rounds: int) -> argparse.ArgumentParser:
        job = jobs.add_parser(name, help=what, prog=f"fst bench {name}", description=f"{what.capitalize()}.")
        job.add_argument("--rounds", type=whole(1), default=rounds, help="how often each is measured (%(default)s)")
        job.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON; - prints it")
        job.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the medians as bars")
        return job

    train = add("train", "a training step", 2)
    race = add("race", "wall time to the plain recipe's losses", 1)
    for job, whose in ((train, "side of the crops"), (race, "side of the plain recipe's crops")):
        job.add_argument("--photos", type=Path, required=True, metavar="DIR", help="photos to learn from")
        job.add_argument("--style-image", type=Path, required=True, metavar="FILE", help="the style picture")
        job.add_argument("--weights", type=Path, metavar="FILE", help="VGG-19's (where fst train looks)")
        job.add_argument("--net", default="johnson", help="fst's network (%(default)s)")
        job.add_argument("--perceptual", default="vgg19", help="fst's perceptual network (%(default)s)")
        job.add_argument("--size", type=whole(1), default=256, help=f"{whose}, px (%(default)s)")
        job.add_argument("--batch", type=whole(1), default=4, help="photos per step (%(default)s)")
        job.add_argument("--validation", type=Path, metavar="DIR", help="held-out photos for the comparison")
        job.add_argument(
            "--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE", help="more for fst train"
        )
    race.add_argument("--steps", type=whole(1), default=2000, help="of the plain recipe (%(default)s)")
    train.add_argument("--steps", type=whole(1), help="per round, a quarter of them to warm up (12; on a GPU 200)")
    train.add_argument(
        "--accuracy-steps",
        type=whole(0),
        default=0,
        metavar="N",
        help="compare losses after N steps, too (%(default)s)",
    )
    train.add_argument("--seeds", type=whole(1), default=3, help="pairs of runs to compare (%(default)s)")
    infer = add("infer", "a repainting", 2)
    infer.add_argument("models", nargs="*", default=["starry_night"], metavar="MODEL", help="styles or model files")
    infer.add_argument("--sizes", type=_sizes, default="256x256,512x512", help="HxW,HxW,... (%(default)s)")
    infer.add_argument("--backend", type=_backends, default="onnxruntime", help="onnxruntime,torch (%(default)s)")
    infer.add_argument("--repeats", type=whole(1), default=10, help="calls per size and round (%(default)s)")
    for job in (train, race, infer):
        job.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(%(default)s)")
        job.add_argument("--threads", type=whole(1), metavar="N", help="processor threads (all cores)")
    start = add("start", "a whole process: fst stylize and a minimal script", 7)
    start.add_argument("--style", "-s", default="starry_night", metavar="MODEL", help="(%(default)s)")
    start.add_argument("--photo", type=Path, metavar="FILE", help="a picture (one of 512x512 is drawn)")
    return made


def main(argv: Sequence[str]) -> int:
    """Run `fst bench`."""
    a = parser().parse_args(argv)
    if a.job != "start":
        require_training()
    from fst.evaluation import bench

    common = "photos style_image weights net perceptual size batch rounds validation device threads overrides"
    if a.job == "train":
        chosen = {name: getattr(a, name) for name in f"{common} steps accuracy_steps seeds".split()}
        result = bench.TrainBench(**chosen).run(_say)
    elif a.job == "race":
        chosen = {name: getattr(a, name) for name in common.split()}
        result = bench.race(bench.TrainBench(**chosen), steps=a.steps, say=_say)
    elif a.job == "infer":
        chosen = {name: getattr(a, name) for name in ("sizes", "device", "threads", "rounds", "repeats")}
        result = bench.infer(a.models, backends=a.backend, say=_say, **chosen)
    else:
        if a.photo is not None and not a.photo.is_file():
            raise UsageError(f"--photo {a.photo}: no such file")
        result = bench.start(style=a.style, photo=a.photo, rounds=a.rounds, say=_say)
    if a.json is not None and str(a.json) == "-":
        print_json(result)
    else:
        _show(result)
        if a.json is not None:
            with whole_file(a.json) as temporary:
                temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if a.plot is not None:
        _plot(a.plot, result)
    return 0


def _say(line: str) -> None:
    print(f"fst bench: {line}", file=sys.stderr, flush=True)


def _show(result: dict[str, Any]) -> None:
    """Print header and tables."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print(_headline(result["header"]), markup=False)
    for title, headings, rows in tables(result):
        table = Table(box=None, title=title, title_justify="left")
        for number, heading in enumerate(headings):
            table.add_column(heading, justify="left" if number == 0 else "right", no_wrap=True)
        for row in rows:
            table.add_row(*map(escape, row))
        console.print(table)


def _headline(header: dict[str, Any]) -> str:
    versions = " ".join(f"{name} {version}" for name, version in header["versions"].items())
    device = f"on {header['device']}, {header['threads']} threads, {header['memory_gb']:.0f} GB"
    return f"{header['machine']} ({header['cores']} cores), {device}\n{header['system']}, {versions}\n{header['date']}"


def tables(result: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, headings and rows of what a benchmark found."""
    make = {"train": _train_tables, "race": _race_tables, "infer": _infer_tables, "start": _start_tables}
    return make[result["bench"]](result)


def _train_tables(result: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    plain, fst, compared = result["plain"], result["fst"], result["ratio"]
    rows = []
    for label, key, digits, times in (
        ("seconds per step", "seconds_per_step", 3, None),
        ("images per second", "images_per_second", 2, "images_per_second"),
        ("peak memory, MB", "peak_rss_mb", 0, "peak_rss"),
        ("peak GPU memory, MB", "peak_gpu_mb", 0, "peak_gpu"),
        ("first step, seconds", "first_step_seconds", 2, None),
    ):
        if fst[key] is None:
            continue
        by_round = [each["ratio"][times] for each in result["rounds"]] if times else []
        each = " ".join(_number(value, 2) for value in by_round)
        ratio = _number(compared[times], 2) if times else ""
        rows.append([label, _number(plain[key], digits), _number(fst[key], digits), ratio, each])
    loader = result["loader"]
    alone = loader["plain_images_per_second"]
    rate = loader["images_per_second"]
    rows.append(["loader alone, images/s", _number(alone, 0), _number(rate, 0), _number(rate / alone, 2), ""])
    s = result["settings"]
    title = f"training, {s['net']} with {s['perceptual']}, {s['batch']} x {s['size']} px"
    found = [(title, ["", "plain", "fst", "ratio", "by round"], rows)]
    if ceilings := result.get("ceilings"):
        found.append(_ceilings_table(ceilings, f"{ceilings['step_tflop']:.2f} TFLOP a step"))
    if runs := result.get("accuracy"):
        lines = [
            [
                f"{name}, seed {run['seed']}",
                *(_number(run[side][name], 4) for side in ("plain", "fst")),
                f"{run['difference'][name]:+.1%}",
            ]
            for run in runs
            for name in ("content", "style")
        ]
        title = f"losses on held-out photos after {s['accuracy_steps']} steps"
        found.append((title, ["", "plain", "fst", "difference"], lines))
    return found


def _race_tables(result: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    rows = [
        [
            f"{side}, seed {run['seed']}, {run[side]['steps']} steps",
            _number(run[side]["seconds"], 0),
            *(_number(run[side][name], 4) for name in ("content", "style", "total")),
            _number(run["ratio"], 3) if side == "fst" else "",
        ]
        for run in result["rounds"]
        for side in ("plain", "fst")
    ]
    return [("a race", ["", "seconds", "content", "style", "total", "of plain's time"], rows)]


def _infer_tables(result: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    rows = [["plain, eager float32", size, _number(ms, 1), "", "", "", "", ""] for size, ms in result["plain"].items()]
    for model in result["models"]:
        for size, cell in model["sizes"].items():
            off = cell["difference_255"]
            rows.append(
                [
                    f"{model['name']} ({model['net']}) on {model['backend']}",
                    size,
                    _number(cell["milliseconds"], 1),
                    _number(cell["times_faster"], 1),
                    _number(cell["repaint_milliseconds"], 1),
                    "" if off is None else f"{off['max']:.2g}",
                    "" if off is None else f"{off['mean']:.2g}",
                    "" if cell.get("fraction") is None else f"{cell['fraction']:.0%}",
                ]
            )
    headings = [
        "network",
        "HxW",
        "ms",
        "faster",
        "whole, ms",
        "max/255",
        "mean/255",
        "of ceiling",
    ]
    return [("repainting", headings, rows), _ceilings_table(result["ceilings"], "")]


def _start_tables(result: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    rows = [
        [
            label,
            _number(result["minimal"][key], digits),
            _number(result["fst"][key], digits),
            _number(result["ratio"][times], 2),
        ]
        for label, key, digits, times in (
            ("seconds", "seconds", 2, "seconds"),
            ("peak memory, MB", "peak_rss_mb", 0, "peak_rss"),
        )
    ]
    return [("a whole process", ["", "minimal script", "fst stylize", "ratio"], rows)]


def _ceilings_table(found: dict[str, Any], work: str) -> tuple[str, list[str], list[list[str]]]:
    side, copied = found["side"], found["copied_bytes"] / 2**20
    rows = [
        [f"matrix product {side}x{side}, bf16", f"{found['matmul_bf16_tflops']:.3g} TFLOP/s"],
        [f"matrix product {side}x{side}, float32", f"{found['matmul_float32_tflops']:.3g} TFLOP/s"],
        [f"copy of {copied:.0f} MiB", f"{found['copy_gb_per_second']:.3g} GB/s"],
    ]
    if work:
        rows.append([f"fst's training step ({work})", f"{found['step_fraction']:.0%} of the best product"])
    return ("ceilings", ["", ""], rows)


def _plot(path: Path, result: dict[str, Any]) -> None:
    from fst.evaluation import plot

    if result["bench"] == "train":
        captions = (("images per second", "images_per_second", "images/s"), ("peak memory", "peak_rss_mb", "MB"))
        groups = [plot.Group(c, u, [(side, result[side][key]) for side in ("plain", "fst")]) for c, key, u in captions]
    elif result["bench"] == "race":
        captions = (("wall time", "seconds", "s"), ("total loss", "total", "0.1 content + style"))
        groups = [
            plot.Group(
                c,
                u,
                [
                    (f"{side}, seed {run['seed']}", run[side][key])
                    for run in result["rounds"]
                    for side in ("plain", "fst")
                ],
            )
            for c, key, u in captions
        ]
    elif result["bench"] == "infer":
        groups = []
        for size, ms in result["plain"].items():
            bars = [("plain", ms)]
            for model in result["models"]:
                taken = model["sizes"][size]["milliseconds"]
                bars += [] if taken is None else [(f"{model['name']}, {model['backend']}", taken)]
            groups.append(plot.Group(size, "ms", bars))
    else:
        captions = (("wall time", "seconds", "s"), ("peak memory", "peak_rss_mb", "MB"))
        groups = [
            plot.Group(c, u, [(side, result[side][key]) for side in ("minimal", "fst")]) for c, key, u in captions
        ]
    header = result["header"]
    footer = f"{header['machine']}, {header['device']}, {header['threads']} threads, {header['date'][:10]}"
    plot.draw(path, f"fst bench {result['bench']}", footer, groups)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _sizes(text: str) -> list[tuple[int, int]]:
    try:
        found = [tuple(int(side) for side in each.split("x")) for each in text.split(",")]
    except ValueError:
        found = []
    if not found or any(len(each) != 2 or min(each) < 16 for each in found):
        raise argparse.ArgumentTypeError(f"is HEIGHTxWIDTH, 16 or more, like 512x512,1080x1920, not {text}")
    return [(each[0], each[1]) for each in found]


def _backends(text: str) -> list[str]:
    from fst.evaluation.bench import BACKENDS

    chosen = text.split(",")
    if unknown := [each for each in chosen if each not in BACKENDS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(BACKENDS)}")
    return chosen

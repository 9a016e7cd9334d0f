"""`fst bench`: fst beside the plain recipe, on this machine, in turn. What it finds is plain data, ready for JSON."""

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fst import bundle, images
from fst.errors import UsageError
from fst.evaluation import start as cold_start
from fst.evaluation.rounds import Result, Say, alternate, cores, header, median, ratio, run_job
from fst.inputs import KINDS

_TRAINING = ("seconds_per_step", "images_per_second", "peak_rss_mb", "peak_gpu_mb", "first_step_seconds")
_CONTENT_WEIGHT = 0.1  # the plain recipe's
BACKENDS = ("onnxruntime", "torch")


@dataclass(frozen=True)
class TrainBench:
    """`fst bench train`: the training step of fst and of the plain recipe.

    Args:
        photos: the folder to learn from.
        style_image: the style picture's file.
        weights: VGG-19's file; None looks where `fst train` does.
        net, perceptual: fst's; the plain recipe always has the Johnson network and VGG-19.
        size, batch, style_size: of both, see jobs.Setup.
        steps: per round; None is 12, or 200 on a GPU. The first quarter of them does not count.
        rounds: how often each is measured.
        accuracy_steps: how long both learn before their losses on held-out photos are compared; 0 leaves it out.
        seeds: how many pairs of such runs.
        validation: the folder of held-out photos.
        device: "cpu" or "cuda".
        threads: None takes all cores.
        overrides: more arguments for `fst train`.

    Raises:
        UsageError: a value that cannot be.
    """

    photos: Path
    style_image: Path
    weights: Path | None = None
    net: str = "johnson"
    perceptual: str = "vgg19"
    size: int = 256
    batch: int = 4
    style_size: int = 512
    steps: int | None = None
    rounds: int = 2
    accuracy_steps: int = 0
    seeds: int = 3
    validation: Path | None = None
    device: str = "cpu"
    threads: int | None = None
    overrides: Sequence[str] = ()

    def __post_init__(self) -> None:
        for what, folder in (("--photos", self.photos), ("--validation", self.validation)):
            if folder is not None and not (folder.is_dir() and images.find_pictures(folder)):
                raise UsageError(f"{what} {folder}: not a folder with pictures in it")
        for what, file in (("--style-image", self.style_image), ("--weights", self.weights)):
            if file is not None and not file.is_file():
                raise UsageError(f"{what} {file}: no such file")
        if self.steps is not None and self.steps < 4:
            raise UsageError(f"--steps must be at least 4, to leave some after the warm-up, not {self.steps}")
        if self.accuracy_steps and self.validation is None:
            raise UsageError("--accuracy-steps compares losses on held-out photos: add --validation FOLDER")

    def run(self, say: Say) -> Result:
        """Measure; `say` is told what is being measured."""
        threads = self.threads or cores()
        sides = {"plain": partial(self._job, "plain_train", threads), "fst": partial(self._job, "fst_train", threads)}
        rounds = alternate(sides, self.rounds, say)
        found = {
            name: {key: median([each[name][key] for each in rounds]) for key in _TRAINING} for name in ("plain", "fst")
        }
        result: Result = {
            "bench": "train",
            "header": header(threads, self.device),
            "settings": self._settings(),
            "plain": found["plain"],
            "fst": found["fst"],
            "ratio": _compare(found),
            "rounds": [each | {"ratio": _compare(each)} for each in rounds],
        }
        say("the loader alone")
        result["loader"] = run_job(
            "fst_loader", threads=threads, photos=str(self.photos), size=self.size, batch=self.batch
        )
        alone = median([each["plain"]["loader_images_per_second"] for each in rounds])
        result["loader"]["plain_images_per_second"] = alone
        if self.perceptual == "vgg19":
            say("the machine's ceilings")
            result["ceilings"] = self._ceilings(found["fst"]["seconds_per_step"], threads)
        if self.accuracy_steps:
            result["accuracy"] = [self._accuracy(seed, threads, say) for seed in range(self.seeds)]
        return result

    def _settings(self) -> Result:
        return {key: str(value) if isinstance(value, Path) else value for key, value in vars(self).items()}

    def _setup(self) -> Result:
        return {
            "photos": str(self.photos.resolve()),
            "style_image": str(self.style_image.resolve()),
            "weights": None if self.weights is None else str(self.weights.resolve()),
            "size": self.size,
            "batch": self.batch,
            "style_size": self.style_size,
            "device": self.device,
        }

    def _job(self, job: str, threads: int) -> Result:
        steps = self.steps or (200 if self.device == "cuda" else 12)
        warm_up = steps // 4
        arguments: dict[str, Any] = {"run": self._setup(), "steps": steps, "warm_up": warm_up}
        if job == "fst_train":
            # A logged step is one that the device is waited for: on a GPU, few of them.
            every = max(1, min(25, steps // 8)) if self.device == "cuda" else 1
            arguments |= {"log_every": every, **self._ours()}
        return run_job(job, threads=threads, **arguments)

    def _ours(self) -> Result:
        return {"net": self.net, "perceptual": self.perceptual, "overrides": list(self.overrides)}

    def _ceilings(self, seconds_per_step: float | None, threads: int) -> Result:
        found = run_job("ceilings", threads=threads, device=self.device)
        counted = run_job("flops", threads=threads, net={"name": self.net}, size=self.size, batch=self.batch, sizes=[])
        found["step_tflop"] = counted["training_step"] / 1e12
        found["step_fraction"] = ratio(found["step_tflop"], (seconds_per_step or 0.0) * found["best_tflops"])
        return found

    def _accuracy(self, seed: int, threads: int, say: Say) -> Result:
        arguments: dict[str, Any] = {"run": self._setup(), "steps": self.accuracy_steps, "seed": seed}
        arguments["validation"] = str(self.validation)
        with tempfile.TemporaryDirectory(prefix="fst-bench-") as folder:
            initial = str(Path(folder) / "initial.safetensors")
            say(f"accuracy, seed {seed}: plain, {self.accuracy_steps} steps")
            theirs = run_job("plain_accuracy", threads=threads, initial=initial, **arguments)
            say(f"accuracy, seed {seed}: fst, {self.accuracy_steps} steps")
            same = self.net == "johnson"
            ours = run_job(
                "fst_accuracy", threads=threads, initial=initial if same else None, **arguments, **self._ours()
            )
        difference = {key: ours[key] / theirs[key] - 1 for key in ("content", "style")}
        return {"seed": seed, "plain": theirs, "fst": ours, "difference": difference, "same_initial_weights": same}


def race(train: TrainBench, *, steps: int, say: Say) -> Result:
    """`fst bench race`: wall time of `fst train` in its own ways beside that of the plain recipe's `steps`.

    Args:
        train: photos, style, networks, device and fst's arguments; without `validation` there is nothing to compare.
        steps: of the plain recipe. How long fst learns is for its own arguments to say, such as trainer.max_steps.
        say: told what is being measured.

    Raises:
        UsageError: no `validation`.
    """
    if train.validation is None:
        raise UsageError("a race ends at losses on held-out photos: add --validation FOLDER")
    threads = train.threads or cores()
    shared: dict[str, Any] = {"run": train._setup(), "validation": str(train.validation.resolve())}
    rounds = []
    for seed in range(train.rounds):
        say(f"race, seed {seed}: plain, {steps} steps")
        theirs = run_job("plain_race", threads=threads, steps=steps, seed=seed, **shared)
        say(f"race, seed {seed}: fst")
        ours = run_job("fst_race", threads=threads, seed=seed, **shared, **train._ours())
        for side in (theirs, ours):
            side["total"] = _CONTENT_WEIGHT * side["content"] + side["style"]
        rounds.append({"seed": seed, "plain": theirs, "fst": ours, "ratio": ours["seconds"] / theirs["seconds"]})
    return {
        "bench": "race",
        "header": header(threads, train.device),
        "settings": train._settings() | {"steps": steps},
        "rounds": rounds,
    }


def _compare(sides: Result) -> Result:
    """How many times the plain recipe's images per second fst has, and which part of its memory."""
    return {
        "images_per_second": ratio(sides["fst"]["images_per_second"], sides["plain"]["images_per_second"]),
        "peak_rss": ratio(sides["fst"]["peak_rss_mb"], sides["plain"]["peak_rss_mb"]),
        "peak_gpu": ratio(sides["fst"]["peak_gpu_mb"], sides["plain"]["peak_gpu_mb"]),
    }


def infer(
    models: Sequence[str],
    *,
    sizes: Sequence[tuple[int, int]],
    backends: Sequence[str],
    device: str = "cpu",
    threads: int | None = None,
    rounds: int = 2,
    repeats: int = 10,
    say: Say,
) -> Result:
    """`fst bench infer`: each model on each backend beside the plain network in eager float32 torch.

    Args:
        models: shipped styles or model files.
        sizes: pictures' (height, width).
        backends: of BACKENDS.
        device: where torch runs.
        threads: None takes all cores.
        rounds: how often each is measured.
        repeats: the most calls per size and round.
        say: told what is being measured.
    """
    threads = threads or cores()
    found_at = [str(bundle.locate(each)) for each in models]
    recipes = [bundle.read_recipe(path) for path in found_at]
    for path, recipe in zip(found_at, recipes, strict=True):
        if any(KINDS[name].needed for name in recipe.inputs):
            raise UsageError(f"{path} takes its style from a picture, and is not measured: name another model")
    timing: dict[str, Any] = {"threads": threads, "sizes": list(sizes), "repeats": repeats, "device": device}
    jobs = {"plain": partial(run_job, "plain_infer", **timing)}
    rows = []
    with tempfile.TemporaryDirectory(prefix="fst-bench-") as folder:
        outputs: dict[str, dict[str, str]] = {path: {} for path in found_at}
        for path in found_at:
            for backend in backends:
                out = Path(folder) / str(len(jobs))
                out.mkdir()
                outputs[path][backend] = str(out)
                jobs[f"{Path(path).stem} on {backend}"] = partial(
                    run_job, f"{backend}_infer", style=path, out=str(out), **timing
                )
        measured = alternate(jobs, rounds, say)
        names = iter(list(jobs)[1:])
        for path, recipe in zip(found_at, recipes, strict=True):
            say(f"{Path(path).stem}: accuracy")
            truth = run_job("reference", threads=threads, style=path, sizes=list(sizes), outputs=outputs[path])
            for backend in backends:
                differences = (truth["differences"] or {}).get(backend, {})
                row = {"model": path, "name": recipe.name, "net": recipe.net.get("name"), "backend": backend}
                rows.append(row | {"sizes": _by_size(next(names), measured, sizes, differences)})
    result: Result = {
        "bench": "infer",
        "header": header(threads, device),
        "settings": {**timing, "models": list(models), "backends": list(backends), "rounds": rounds},
        "plain": {
            f"{height}x{width}": median(
                [each["plain"]["sizes"][f"{height}x{width}"]["milliseconds"] for each in measured]
            )
            for height, width in sizes
        },
        "models": rows,
        "rounds": measured,
    }
    say("the machine's ceilings")
    result["ceilings"] = run_job("ceilings", threads=threads, device=device)
    for row, recipe in zip(rows, [r for r in recipes for _ in backends], strict=True):
        _add_fractions(row, recipe.net, sizes, threads, result["ceilings"]["best_tflops"])
    return result


def _by_size(
    name: str, measured: Sequence[dict[str, Result]], sizes: Sequence[tuple[int, int]], differences: Result
) -> Result:
    found = {}
    for height, width in sizes:
        size = f"{height}x{width}"
        theirs = [each["plain"]["sizes"][size]["milliseconds"] for each in measured]
        ours = [each[name]["sizes"][size] for each in measured]
        taken = [each["milliseconds"] for each in ours]
        found[size] = {
            "milliseconds": median(taken),
            "repaint_milliseconds": median([each.get("repaint_milliseconds") for each in ours]),
            "times_faster": ratio(median(theirs), median(taken)),
            "times_faster_by_round": [ratio(a, b) for a, b in zip(theirs, taken, strict=True)],
            "difference_255": differences.get(size),
            "note": ours[0].get("note"),
        }
    return found


def _add_fractions(
    row: Result, net: dict[str, Any], sizes: Sequence[tuple[int, int]], threads: int, best_tflops: float
) -> None:
    """Note how much of the best matrix product the row reaches, where fst knows its network."""
    try:
        counted = run_job("flops", threads=threads, net=net, size=64, batch=1, sizes=list(sizes))["pictures"]
    except UsageError:
        return
    for size, cell in row["sizes"].items():
        cell["gflop"] = counted[size] / 1e9
        seconds = (cell["milliseconds"] or 0.0) / 1e3
        cell["fraction"] = ratio(counted[size] / 1e12, seconds * best_tflops)


def start(*, style: str, photo: Path | None, rounds: int, say: Say) -> Result:
    """`fst bench start`: a whole `fst stylize` process beside a minimal script, see start.measure."""
    found = cold_start.measure(style, photo, rounds=rounds, say=say)
    wall, peak = (
        {name: statistics.median(turn[key] for turn in turns) for name, turns in found.items()}
        for key in ("seconds", "peak_rss_mb")
    )
    sides = {name: {"seconds": wall[name], "peak_rss_mb": peak[name]} for name in found}
    by_round = [a["seconds"] / b["seconds"] for a, b in zip(found["fst"], found["minimal"], strict=True)]
    return {
        "bench": "start",
        "header": header(cores(), "cpu"),
        "settings": {"style": style, "photo": None if photo is None else str(photo), "rounds": rounds},
        **sides,
        "ratio": {
            "seconds": wall["fst"] / wall["minimal"],
            "seconds_by_round": by_round,
            "peak_rss": peak["fst"] / peak["minimal"],
        },
        "rounds": found,
    }

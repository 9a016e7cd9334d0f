"""What `fst bench` measures: each function runs in a process of its own, see `rounds.run_job`."""

import contextlib
import inspect
import itertools
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import psutil
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset, Sampler

from fst import bundle, images, nets
from fst.errors import FstError, UsageError
from fst.evaluation import plain
from fst.evaluation.rounds import Result
from fst.export import model
from fst.inference.stylizer import Stylizer
from fst.inference.torch_backend import TorchStylizer
from fst.perceptual import vgg
from fst.training.callbacks import TrainProgress
from fst.training.crops import Sample
from fst.training.data import FolderData, StreamSampler

_SCORED = 32  # held-out photos
_LOADER_SECONDS = 4.0
_TIMED_SECONDS = 8.0  # the most that timing one picture size takes, once it was run three times


def child() -> NoReturn:
    """Do what standard input asks for, write the result as JSON, and end."""
    asked = json.load(sys.stdin)
    torch.set_num_threads(asked["threads"])
    job: Callable[..., Result] = JOBS[asked["job"]]
    arguments = asked["arguments"]
    if "threads" in inspect.signature(job).parameters:
        arguments["threads"] = asked["threads"]
    try:
        result = job(**arguments)
    except FstError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    Path(asked["result"]).write_text(json.dumps(result), encoding="utf-8")
    sys.exit(0)


# --- training ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setup:
    """What both recipes are given alike.

    Args:
        photos: the folder to learn from.
        style_image: the style picture's file.
        weights: VGG-19's file; None looks where fst does, but fetches nothing.
        size: side of the crops, in pixels.
        batch: photos per step.
        style_size: longest side of the style picture, in pixels; it is never enlarged.
        device: "cpu" or "cuda".
    """

    photos: str
    style_image: str
    weights: str | None = None
    size: int = 256
    batch: int = 4
    style_size: int = 512
    device: str = "cpu"

    def plain(self, seed: int = 0) -> plain.PlainTraining:
        """The plain recipe's run. Raises UsageError without VGG-19's weights."""
        return plain.PlainTraining(**vars(self) | {"weights": self._vgg_weights(), "seed": seed})

    def words(self, net: str, perceptual: str) -> list[str]:
        """`fst train`'s arguments for a run with the plain recipe's losses and rate, and fst's own ways otherwise."""
        with Image.open(self.style_image) as picture:
            style_size = min(self.style_size, max(picture.size))
        return [
            *(f"style.image={self.style_image}", f"style.size_px={style_size}"),
            *(f"data.dir={self.photos}", f"data.size={self.size}", f"data.batch_size={self.batch}"),
            *(f"net={net}", *self.perceptual_words(perceptual)),
            *("schedule=constant", "optimizer=adam", "loss=default", "loss.tv_weight=0.0"),
            *("logger=csv", "samples_every_n_steps=0"),
        ]

    def perceptual_words(self, name: str) -> list[str]:
        """The arguments that say where to run, and with which perceptual network."""
        weights = [] if name == "lite" else [f"perceptual.weights={self._vgg_weights()}"]
        return [f"trainer={'gpu' if self.device == 'cuda' else 'cpu'}", f"perceptual={name}", *weights]

    def _vgg_weights(self) -> Path:
        found = vgg.find_local_weights(self.weights)
        if found is None:
            raise UsageError(f"the plain recipe needs VGG-19's weights: --weights FILE, or set {vgg.WEIGHTS_VARIABLE}")
        return found


def plain_train(*, run: dict[str, Any], steps: int, warm_up: int) -> Result:
    """Seconds of the plain recipe's steps after `warm_up`, its peak memory, and how fast its photos come alone."""
    setup = Setup(**run)
    training = setup.plain()
    seconds = [_timed(training.step, setup.device) for _ in range(steps)]
    found = _training_result(seconds[warm_up:], setup) | {"first_step_seconds": seconds[0]}
    began, files = time.perf_counter(), training.files[:100]
    for file in files:
        training.photo(file)
    return found | {"loader_images_per_second": len(files) / (time.perf_counter() - began)}


def fst_train(
    *,
    run: dict[str, Any],
    steps: int,
    warm_up: int,
    log_every: int,
    net: str,
    perceptual: str,
    overrides: Sequence[str],
) -> Result:
    """The same of `fst train schedule=constant`, the command itself; it ends at its last step, before any export.

    Times are taken when a step is logged, which is once every `log_every` steps, and after `warm_up` of them.
    """
    setup = Setup(**run)
    marks: list[tuple[int, float]] = []
    memory: Result = {}

    def note(progress: TrainProgress) -> None:
        _wait(setup.device)
        marks.append((progress.step, time.perf_counter()))
        if progress.step == progress.max_steps:
            memory.update(_peak(setup.device))
            raise _Enough

    with tempfile.TemporaryDirectory(prefix="fst-bench-") as folder, contextlib.suppress(_Enough):
        words = [*setup.words(net, perceptual), f"trainer.max_steps={steps}"]
        words += [f"trainer.log_every_n_steps={log_every}", f"hydra.run.dir={folder}/run", *overrides]
        _fst_train(words, note)
    pairs = list(itertools.pairwise(marks))
    seconds = [(t1 - t0) / (s1 - s0) for (s0, t0), (s1, t1) in pairs if s0 >= warm_up]
    first = next((t1 - t0 for (s0, t0), (s1, t1) in pairs if s0 == 0), None)
    return _training_result(seconds, setup) | memory | {"first_step_seconds": first}


def fst_loader(*, photos: str, size: int, batch: int) -> Result:
    """Images per second of PhotoData's loader with nothing behind it, after its queues were once filled."""
    import pytorch_lightning as pl

    data = FolderData(dir=photos, size=size, batch_size=batch)
    data.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    data.prepare_data()
    data.setup("fit")
    loader = iter(data.train_dataloader())
    for _ in range(2 + 4 * max(1, data.num_workers)):
        next(loader)
    began, seen = time.perf_counter(), 0
    while time.perf_counter() - began < _LOADER_SECONDS:
        seen += len(data.on_before_batch_transfer(next(loader), 0))
    return {"images_per_second": seen / (time.perf_counter() - began), "workers": data.num_workers}


def plain_accuracy(
    *,
    run: dict[str, Any],
    steps: int,
    validation: str,
    seed: int,
    initial: str,
) -> Result:
    """Losses on held-out photos after `steps` of the plain recipe; the weights it begins with go into `initial`."""
    training = Setup(**run).plain(seed)
    start = nets.build({"name": "johnson"})
    start.load_state_dict(training.net.to_fst())
    model.write(Path(initial), start, bundle.Recipe(name="initial", net=nets.recipe_of(start)))
    began = time.perf_counter()
    for _ in range(steps):
        training.step()
    seconds = time.perf_counter() - began
    content, style = training.score(training.net, plain.find_photos(validation)[:_SCORED])
    return {"content": content, "style": style, "seconds": seconds}


def fst_accuracy(
    *,
    run: dict[str, Any],
    steps: int,
    validation: str,
    seed: int,
    initial: str | None,
    net: str,
    perceptual: str,
    overrides: Sequence[str],
) -> Result:
    """The same of `fst train`, from the weights in `initial`, on the plain recipe's batches; scored by its VGG-19."""
    setup = Setup(**run)
    marks: list[float] = []
    with tempfile.TemporaryDirectory(prefix="fst-bench-") as folder:
        words = [*setup.words(net, perceptual), f"trainer.max_steps={steps}", f"trainer.log_every_n_steps={steps}"]
        words += ["data._target_=fst.evaluation.jobs.PlainOrder", f"seed={seed}", f"hydra.run.dir={folder}/run"]
        words += [] if initial is None else [f"init={initial}"]
        words += [] if perceptual == "lite" else ["perceptual.padding=zeros"]
        _fst_train([*words, *overrides], lambda progress: marks.append(time.perf_counter()))
        (learnt,) = Path(folder, "run").glob("*.safetensors")
        restyler, _ = model.read(learnt)
    content, style = setup.plain().score(restyler.to(setup.device), plain.find_photos(validation)[:_SCORED])
    return {"content": content, "style": style, "seconds": marks[-1] - marks[0]}


def plain_race(*, run: dict[str, Any], steps: int, validation: str, seed: int) -> Result:
    """Wall time of `steps` of the plain recipe from when it is asked for, and its losses on held-out photos then."""
    began = time.perf_counter()
    training = Setup(**run).plain(seed)
    for _ in range(steps):
        training.step()
    seconds = time.perf_counter() - began
    content, style = training.score(training.net, plain.find_photos(validation)[:_SCORED])
    return {"steps": steps, "content": content, "style": style, "seconds": seconds}


def fst_race(
    *, run: dict[str, Any], validation: str, seed: int, net: str, perceptual: str, overrides: Sequence[str]
) -> Result:
    """The same of `fst train` in its own ways, to the model file it writes; scored by the plain recipe's VGG-19."""
    setup = Setup(**run)
    steps = 0

    def note(progress: TrainProgress) -> None:
        nonlocal steps
        steps = progress.step

    with tempfile.TemporaryDirectory(prefix="fst-bench-") as folder:
        words = [f"style.image={setup.style_image}", f"data.dir={setup.photos}", f"net={net}", "logger=csv"]
        words += [*setup.perceptual_words(perceptual), "samples_every_n_steps=0", f"seed={seed}"]
        began = time.perf_counter()
        _fst_train([*words, f"hydra.run.dir={folder}/run", *overrides], note)
        seconds = time.perf_counter() - began
        (learnt,) = Path(folder, "run").glob("*.safetensors")
        restyler, _ = model.read(learnt)
    content, style = setup.plain().score(restyler.to(setup.device), plain.find_photos(validation)[:_SCORED])
    return {"steps": steps, "content": content, "style": style, "seconds": seconds}


class PlainOrder(FolderData):
    """The plain recipe's photos: sorted, over and over, the square in the middle of each."""

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        self.files = plain.find_photos(self.dir)

    def stream(self, start: int, rank: int, world: int) -> tuple[Dataset[Sample], Sampler[int]]:
        return _CentreCrops(self.files, self.size), StreamSampler(start, self.batch_size, rank, world)


class _CentreCrops(Dataset[Sample]):
    def __init__(self, files: Sequence[Path], size: int) -> None:
        self.files, self.crop = list(files), plain.centre_crop(size)

    def __getitem__(self, position: int) -> Sample:
        photo = self.crop(Image.open(self.files[position % len(self.files)]).convert("RGB"))
        return Sample(torch.from_numpy(np.asarray(photo).transpose(2, 0, 1).copy()), [])


class _Enough(Exception):  # noqa: N818 - not an error
    """All steps are measured."""


def _fst_train(words: Sequence[str], note: Callable[[TrainProgress], None]) -> None:
    from fst.training import train

    train.main(words, on_progress=note, say=lambda line: None)


def _training_result(seconds: Sequence[float], setup: Setup) -> Result:
    middle = statistics.median(seconds)
    return {"seconds_per_step": middle, "images_per_second": setup.batch / middle, **_peak(setup.device)}


# --- inference --------------------------------------------------------------------------------------------------------


def drawn_photo(height: int, width: int) -> images.Pixels:
    """Coarse patches of colour with fine grain, the same for each size: (height, width, 3) uint8."""
    random = np.random.default_rng(height * 100_003 + width)
    coarse = random.integers(0, 256, (max(2, height // 32), max(2, width // 32), 3), dtype=np.uint8)
    grain = random.integers(-12, 13, (height, width, 1), dtype=np.int16)
    photo: images.Pixels = (images.resize(coarse, (width, height)) + grain).clip(0, 255).astype(np.uint8)
    return photo


def plain_infer(*, sizes: Sequence[tuple[int, int]], repeats: int, device: str) -> Result:
    """Milliseconds of the plain network in eager float32 by size "HxW"."""
    net, found = plain.PlainNet().to(device).eval(), {}
    with torch.no_grad():
        for height, width in sizes:
            x = torch.from_numpy(images.to_float(drawn_photo(height, width))).to(device)
            found[f"{height}x{width}"] = {"milliseconds": _milliseconds(partial(net, x), repeats, device)}
    return {"sizes": found, **_peak(device)}


def onnxruntime_infer(
    *, style: str, sizes: Sequence[tuple[int, int]], repeats: int, threads: int, device: str, out: str | None
) -> Result:
    """Milliseconds by size through `Stylizer`: of the network alone, and of a whole repainting of 8-bit pixels.

    What `Stylizer` paints goes to the folder `out`, as HxW.npy. `device` is not asked: it is what a user gets.
    """
    stylizer = Stylizer(style, threads=threads)
    found: Result = {}
    for height, width in sizes:
        photo, plan = drawn_photo(height, width), stylizer.plan((width, height))
        if plan.size != (width, height):
            found[f"{height}x{width}"] = {"milliseconds": None, "note": plan.note}
            continue
        run = partial(stylizer._run, images.to_float(photo), frugal=plan.frugal)
        if out is not None:
            np.save(Path(out) / f"{height}x{width}.npy", run())
        alone, whole = (_milliseconds(work, repeats, "cpu") for work in (run, partial(stylizer.repaint, photo)))
        found[f"{height}x{width}"] = {"milliseconds": alone, "repaint_milliseconds": whole}
    return {"sizes": found, **_peak("cpu")}


def torch_infer(
    *, style: str, sizes: Sequence[tuple[int, int]], repeats: int, threads: int, device: str, out: str | None
) -> Result:
    """The same through `TorchStylizer`, the network alone on pictures that lie on the device already."""
    net, recipe = model.read(bundle.locate(style))
    stylizer = TorchStylizer(net, recipe, device=device, threads=threads)
    found: Result = {}
    for height, width in sizes:
        photo = drawn_photo(height, width)
        planes = images.to_float(photo)
        if out is not None:
            np.save(Path(out) / f"{height}x{width}.npy", stylizer._run(planes, frugal=False))
        paint = stylizer._on_cuda if device == "cuda" else net
        with torch.inference_mode():
            alone = _milliseconds(partial(paint, torch.from_numpy(planes).to(device)), repeats, device)
        whole = _milliseconds(partial(stylizer.repaint, photo), repeats, device)
        found[f"{height}x{width}"] = {"milliseconds": alone, "repaint_milliseconds": whole}
    return {"sizes": found, **_peak(device)}


def reference(*, style: str, sizes: Sequence[tuple[int, int]], outputs: dict[str, str]) -> Result:
    """How far the pictures in the folders `outputs` are from float32 torch with the same weights, in 1/255.

    {"differences": None} for a model whose network fst cannot build again.
    """
    try:
        net, _ = model.read(bundle.locate(style))
    except FstError as error:
        return {"differences": None, "note": str(error)}
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in outputs}
    for height, width in sizes:
        with torch.no_grad():
            wanted = net.eval()(torch.from_numpy(images.to_float(drawn_photo(height, width)))).numpy()
        for name, folder in outputs.items():
            path = Path(folder) / f"{height}x{width}.npy"
            if path.is_file():
                difference = np.abs(np.load(path).astype(np.float32) - wanted) * 255
                found[name][f"{height}x{width}"] = {"max": float(difference.max()), "mean": float(difference.mean())}
    return {"differences": found}


# --- ceilings ---------------------------------------------------------------------------------------------------------


def ceilings(*, device: str) -> Result:
    """What the machine can do at best: TFLOP/s of a large matrix product, GB/s (read and written) of a large copy."""
    side, copied = (8192, 2**30) if device == "cuda" else (2048, 2**28)
    found: Result = {}
    for name, dtype in (("bf16", torch.bfloat16), ("float32", torch.float32)):
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        seconds = _milliseconds(partial(torch.matmul, a, b), 20, device) / 1e3
        found[f"matmul_{name}_tflops"] = 2 * side**3 / seconds / 1e12
    source = torch.ones(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    found["copy_gb_per_second"] = 2 * copied / (_milliseconds(lambda: target.copy_(source), 10, device) / 1e3) / 1e9
    found["side"], found["copied_bytes"] = side, copied
    found["best_tflops"] = max(found["matmul_bf16_tflops"], found["matmul_float32_tflops"])
    return found


def flops(*, net: dict[str, Any], size: int, batch: int, sizes: Sequence[tuple[int, int]]) -> Result:
    """Floating-point operations that cannot be left out: of a step with VGG-19 to relu3_4, and of a picture by size.

    Photos go as deep as the content layer, without gradients; restyled ones to relu3_4 and back. Counted without
    computing anything.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    def count(work: Callable[[], object]) -> int:
        with FlopCounterMode(display=False) as counter:
            work()
        return int(counter.get_total_flops())

    def step() -> None:
        photos = torch.empty(batch, 3, size, size)
        with torch.no_grad():
            content = layers.layers[: plain.CONTENT_INDEX + 1](photos)
        restyled = layers(restyler(photos))
        grams = {name: plain.gram(restyled[name].detach()[:1]) for name in plain.STYLE_LAYERS}
        found = plain.losses(restyled, {plain.CONTENT_LAYER: content}, grams)
        sum(found, start=torch.zeros(())).backward()  # type: ignore[no-untyped-call]

    with FakeTensorMode():
        restyler, layers = nets.build(net), plain.Vgg(None)
        layers.normalize = nn.Identity()  # looks at its numbers, and there are none
        found: Result = {"training_step": count(step), "pictures": {}}
        restyler.eval()
        with torch.no_grad():
            for height, width in sizes:
                x = torch.empty(1, 3, height, width)
                found["pictures"][f"{height}x{width}"] = count(partial(restyler, x))
    return found


# --- clocks and memory ------------------------------------------------------------------------------------------------


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _timed(work: Callable[[], object], device: str) -> float:
    """Seconds of one call."""
    _wait(device)
    began = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - began


def _milliseconds(work: Callable[[], object], repeats: int, device: str) -> float:
    """Median of up to `repeats` calls after two that do not count."""
    for _ in range(2):
        _timed(work, device)
    seconds: list[float] = []
    while len(seconds) < repeats and (len(seconds) < 3 or sum(seconds) < _TIMED_SECONDS):
        seconds.append(_timed(work, device))
    return statistics.median(seconds) * 1e3


def _peak(device: str) -> Result:
    """Peak memory of this process, in MB, with what its workers hold for themselves now; and the GPU's."""
    private = 0
    for worker in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            private += worker.memory_full_info().uss
    gpu = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else None
    return {"peak_rss_mb": _peak_rss_mb() + private / 2**20, "peak_gpu_mb": gpu}


def _peak_rss_mb() -> float:
    # ru_maxrss of a process that was started from a large one counts that one's memory; VmHWM is its own.
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="utf-8") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


JOBS: dict[str, Callable[..., Result]] = {
    job.__name__: job
    for job in (
        *(plain_train, fst_train, fst_loader, plain_accuracy, fst_accuracy, plain_race, fst_race),
        *(plain_infer, onnxruntime_infer, torch_infer, reference, ceilings, flops),
    )
}

"""What is installed, found and missing on this machine, and the command that mends it."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from fst import bundle
from fst.errors import FstError
from fst.inference.memory import available_bytes
from fst.paths import cache_folder, carried
from fst.version import __version__

Status = Literal["ok", "missing", "broken"]
_LIGHT = ("numpy", "pillow", "onnxruntime", "safetensors", "rich", "psutil")
_TRAINING = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "onnx", "onnxscript")
_OPTIONAL = ("datasets", "wandb", "tensorboard")


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what was found, and what to do where it is missing or broken."""

    topic: str
    what: str
    status: Status = "ok"
    remedy: str | None = None


def examine() -> Iterator[Finding]:
    """Look at everything that fst uses, one finding after the other."""
    yield Finding(
        "fst", f"{__version__} on Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    )
    yield from _machine()
    yield from _packages()
    yield from _models()
    if find_spec("torch"):
        yield from _training()


def _machine() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    free = shutil.disk_usage(Path.cwd()).free
    what = f"{cores} cores, {available_bytes() / 1e9:.1f} GB memory free, {free / 1e9:.0f} GB disk free here"
    if free < 1e9:
        yield Finding("machine", what, "broken", "free some disk space")
    else:
        yield Finding("machine", what)


def _packages() -> Iterator[Finding]:
    for names, remedy, needed in (
        (_LIGHT, "pip install . in fst's checkout", True),
        (_TRAINING, "pip install '.[train]' in fst's checkout  (to train, export and import)", True),
        (_OPTIONAL, "pip install '.[train]' in fst's checkout  (only where used)", False),
    ):
        for name in names:
            try:
                yield Finding("package", _installed(name))
            except PackageNotFoundError:
                yield Finding(
                    "package", f"{name} is not installed", "missing" if needed else "ok", remedy if needed else None
                )


def _installed(package: str) -> str:
    """Name and version, for onnxruntime those of the variant that is here; raises PackageNotFoundError."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        variants = packages_distributions().get(package, []) if package == "onnxruntime" else []
        if not variants:
            raise
        return f"{variants[0]} {version(variants[0])}"


def _models() -> Iterator[Finding]:
    shipped = bundle.shipped()
    if not shipped:
        yield Finding("styles", "none is carried", "broken", "install fst again from its checkout")
    for name, path in shipped.items():
        try:
            recipe = bundle.read(path).recipe
            styles = f", with {', '.join(recipe.style_names)}" if "styles" in recipe.inputs else ""
            yield Finding("style", f"{name} is whole{styles} ({path})")
        except FstError as error:
            yield Finding("style", str(error), "broken", "install fst again from its checkout")


def _training() -> Iterator[Finding]:
    import torch

    from fst.perceptual.vgg import WEIGHTS_VARIABLE, cached_weights, find_local_weights
    from fst.training import precision
    from fst.training.styles import STYLES_VARIABLE

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(index)
            yield Finding("device", f"cuda:{index} {card.name}, {card.total_memory / 1e9:.0f} GB")
    else:
        mps = torch.backends.mps.is_available()
        yield Finding("device", "Apple GPU (mps)" if mps else "no GPU: training runs on the processor")
    yield Finding("precision", f"auto means {precision.choose('auto', 'auto')} here")
    try:
        weights = find_local_weights()
    except FstError as error:
        yield Finding("VGG-19", str(error), "broken", f"set {WEIGHTS_VARIABLE} to a file that exists, or unset it")
    else:
        if weights:
            yield Finding("VGG-19", f"weights: {weights}")
        else:
            yield Finding(
                "VGG-19",
                f"no weights; the first training downloads them (548 MB) to {cached_weights()}",
                "missing",
                f"export {WEIGHTS_VARIABLE}=FILE, where you have them already; perceptual=lite needs none",
            )
    folder = os.environ.get(STYLES_VARIABLE)
    elsewhere = _pictures_elsewhere()
    lacking = [name for name in elsewhere if not (folder and any(Path(folder).expanduser().glob(f"{name}.*")))]
    if lacking:
        remedy = f"put the pictures into a folder and export {STYLES_VARIABLE}=FOLDER, or use style.image=FILE"
        yield Finding("style pictures", f"not here: {', '.join(lacking)}", "missing", remedy)
    else:
        yield Finding("style pictures", f"all in {folder}")
    yield _cache()


def _pictures_elsewhere() -> list[str]:
    """The styles that fst knows but whose pictures it does not carry."""
    here = carried("conf") / "style"
    named = {file.stem for file in here.glob("*.yaml")} - {"custom"}
    return sorted(named - {file.stem for file in (here / "pictures").iterdir()})


def _cache() -> Finding:
    folder = cache_folder()
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    if os.access(existing, os.W_OK):
        return Finding("cache", str(folder))
    return Finding("cache", f"{folder} cannot be written", "broken", "export FST_CACHE=FOLDER")


def is_healthy(findings: list[Finding]) -> bool:
    """Whether nothing is broken; what is merely not installed or not there is no illness."""
    return sys.version_info >= (3, 11) and all(finding.status != "broken" for finding in findings)

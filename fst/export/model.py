"""From weights to model file: a network with its recipe, written as .onnx, .safetensors or .pt2, or read back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fst import bundle, nets
from fst.errors import FstError, UsageError
from fst.export import int8, pt2
from fst.export.onnx import to_onnx
from fst.perceptual import encoders

RECIPE_KEY = "fst_recipe"  # where a training checkpoint keeps its recipe
SUFFIXES = (".onnx", ".safetensors", ".pt2")


def check_target(path: Path) -> None:
    """Raise UsageError where `path` does not say what to write."""
    if path.suffix not in SUFFIXES:
        raise UsageError(f"-o {path}: a model file ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")


def check_options(path: Path, *, float16: bool, int8: bool, aot: bool) -> None:
    """Raise UsageError where an option does not go with the kind of file, or with another."""
    for option, given, suffix in (
        ("--float16", float16, ".onnx"),
        ("--int8", int8, ".onnx"),
        ("--aot", aot, ".pt2"),
    ):
        if given and path.suffix != suffix:
            raise UsageError(f"{option} is for {suffix} files, and -o is {path}")
    if float16 and int8:
        raise UsageError("--int8 and --float16 do not go together: choose one")


def write(
    path: Path,
    net: nn.Module,
    recipe: bundle.Recipe,
    *,
    float16: bool = False,
    calibration: Path | None = None,
    aot: bool = False,
) -> None:
    """Write a network as .onnx or .pt2, checked against `net`, or as .safetensors, by the suffix of `path`.

    Args:
        float16: store the weights of an .onnx in half the bytes.
        calibration: a folder of photos by which to quantise an .onnx to 8-bit integers; what was measured goes into
            the recipe's metrics.
        aot: compile a .pt2 for this machine's processor.

    Raises:
        UsageError: another suffix, or an option that it does not have.
        FstError: the exported graph does not give torch's pictures, in int8 is no faster or too different, or does not
            compile; the disk refuses.
    """
    check_target(path)
    check_options(path, float16=float16, int8=calibration is not None, aot=aot)
    net = net.cpu().float()
    if path.suffix == ".onnx":
        photos = None if calibration is None else int8.read_photos(calibration)
        graph = to_onnx(net, float16=float16).graph
        if photos is not None:
            made = int8.quantise(graph, photos, nets.inputs_of(net))
            graph, known = made.graph, {"int8_mean_difference": made.mean_difference}
            recipe = replace(recipe, metrics=recipe.metrics | known)
        bundle.write_onnx(path, graph, recipe)
    elif path.suffix == ".pt2":
        pt2.write(path, net, recipe, aot=aot)
    else:
        weights = {name: np.ascontiguousarray(value.numpy()) for name, value in net.state_dict().items()}
        bundle.write_safetensors(path, weights, recipe)


def read(source: Path) -> tuple[nn.Module, bundle.Recipe]:
    """The network and recipe in a run's folder, a training checkpoint (.ckpt), or a model file of any kind.

    A .pt2 file may run code as it is loaded: give only one that is trusted.

    Raises:
        FstError: nothing there that can be read.
    """
    if source.is_dir():
        source = _inside(source)
    if source.suffix == ".ckpt":
        return _read_checkpoint(source)
    if source.suffix == ".pt2":
        return pt2.read(source)
    tensors, recipe = bundle.read_weights(source)
    net = nets.build(recipe.net, encoder=encoders.build)
    load(net, tensors, source)
    return net, recipe


def load(net: nn.Module, tensors: "bundle.Tensors", source: Path | str) -> None:
    """Copy arrays by name into a network. Raises FstError where one is missing or of another shape."""
    for name, value in net.state_dict().items():
        if name not in tensors or tensors[name].shape != tuple(value.shape):
            raise FstError(f"{source}: its weights do not fit the network at {name}")
        with torch.no_grad():
            value.copy_(torch.from_numpy(np.array(tensors[name])))


def _inside(folder: Path) -> Path:
    for pattern in ("last.ckpt", "*.safetensors", "*.onnx"):
        if found := sorted(folder.glob(pattern)):
            return found[0]
    raise UsageError(f"{folder}: no last.ckpt and no model file in it")


def _read_checkpoint(path: Path) -> tuple[nn.Module, bundle.Recipe]:
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        text, state = checkpoint[RECIPE_KEY], checkpoint["state_dict"]
    except Exception as error:
        raise FstError(f"{path}: damaged, or not a checkpoint of fst train ({type(error).__name__})") from error
    recipe = bundle.Recipe.from_json(text)
    net = nets.build(recipe.net, encoder=encoders.build)
    load(net, {name.removeprefix("net."): value.float().numpy() for name, value in state.items()}, path)
    return net, recipe

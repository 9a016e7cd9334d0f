"""torch -> ONNX, with a parity check that fails loudly."""

import contextlib
import copy
import io
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fst import nets
from fst.errors import FstError
from fst.inputs import KINDS, Value, neutral

OPSET = 18
PARITY_SIZES = ((33, 47), (70, 101), (97, 64))
MAX_DIFFERENCE = 1 / 255
MAX_CODE_DIFFERENCE = 0.01


class Export(NamedTuple):
    """An ONNX graph and its largest absolute difference from torch at PARITY_SIZES."""

    graph: bytes
    max_difference: float


def to_onnx(net: nn.Module, *, sizes: Sequence[tuple[int, int]] = PARITY_SIZES, float16: bool = False) -> Export:
    """Export a network: `image` (B, 3, H, W) -> `stylized`, both float32 in [0, 1], and its further inputs by name.

    Batch and size are free (H, W >= 16). `net` stays as it is, on its device and in its mode. `float16` stores the
    weights in half the bytes.

    Raises:
        FstError: onnxruntime does not give torch's picture to within 1/255 at one of the `sizes`, (height, width).
    """
    net, generator = _own(net), torch.Generator().manual_seed(0)
    image, further = torch.rand(2, 3, 64, 80, generator=generator), example_inputs(net, 2, generator)
    exported = _export(net, image, further, "stylized")
    _keep_all_weights(exported, net)
    graph = _same_size_out(exported)
    if float16:
        graph = halve_weights(graph)
    return Export(graph, check_parity(net, graph, sizes))


def encoder_to_onnx(
    net: nn.Module, *, sizes: Sequence[tuple[int, int]] = PARITY_SIZES, float16: bool = False
) -> Export:
    """Export a network's `encode`: `image` (B, 3, H, W) float32 in [0, 1], a style's -> `style_code` (B, K) float32.

    As `to_onnx`, but that `max_difference` is the largest distance from torch's code, over the length of this.

    Raises:
        FstError: it is a hundredth or more, or not a number.
    """
    encoder = _Encoder(_own(net))
    generator, worst = torch.Generator().manual_seed(1), 0.0
    graph = _export(encoder, torch.rand(2, 3, 64, 80, generator=generator), {}, "style_code").SerializeToString()
    if float16:
        graph = halve_weights(graph)
    run = runner(graph, "style_code")
    for size in sizes:
        image = _smooth_noise(size, generator)
        with torch.no_grad():
            wanted, got = encoder(image), run(image)
        if got.shape != wanted.shape:
            raise FstError(f"the exported encoder gives {tuple(got.shape)} where torch gives {tuple(wanted.shape)}")
        distance = (got - wanted).norm(dim=1) / wanted.norm(dim=1)
        worst = float(np.maximum(worst, distance.max().item()))
    if not worst < MAX_CODE_DIFFERENCE:
        raise FstError(f"the exported encoder differs from torch by {worst:.2%} of a code; 1% is allowed")
    return Export(graph, worst)


class _Encoder(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        code: Tensor = self.net.encode(image)  # type: ignore[operator]
        return code


def _own(net: nn.Module) -> nn.Module:
    """A copy to export."""
    net = copy.deepcopy(net).float().cpu().eval()
    return net.to(memory_format=torch.contiguous_format)  # from others the exporter guesses ranges of sizes, and fails


def _export(net: nn.Module, image: Tensor, further: dict[str, Tensor], output: str) -> Any:
    """The ModelProto of a network of `image` and `further` inputs: any batch and size."""
    batch = torch.export.Dim("batch")
    axes: dict[str, Any] = {
        "image": {0: batch, 2: torch.export.Dim("height", min=16), 3: torch.export.Dim("width", min=16)},
        **{name: {0: batch} for name in further},  # in the order of the inputs
    }
    with quiet():
        program = torch.onnx.export(
            net,
            (image,),
            kwargs=further,
            input_names=["image", *further],
            output_names=[output],
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            dynamic_shapes=axes,
            verbose=False,
        )
    assert program is not None
    return without_traces(program.model_proto)


def without_traces(model: Any) -> Any:
    """The same ModelProto without the notes that the exporter leaves for itself.

    They tell of every node which line of which file made it: longer than the graph, and a file's path names a person.
    """
    del model.metadata_props[:]
    for where in (model.graph, *model.functions):
        del where.metadata_props[:]
        for parts in (where.node, where.value_info):
            for part in parts:
                del part.metadata_props[:]
                part.ClearField("doc_string")
    for part in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del part.metadata_props[:]
        part.ClearField("doc_string")
    return model


def _keep_all_weights(model: Any, net: nn.Module) -> None:
    """Put back what the exporter merged, so that training can start from the graph: it keeps one of equal weights."""
    from onnx import numpy_helper

    kept = {weight.name for weight in model.graph.initializer}
    for name, value in net.state_dict().items():
        if name not in kept:
            model.graph.initializer.append(numpy_helper.from_array(value.numpy(), name))


def _same_size_out(model: Any) -> bytes:
    """Name the output's axes like the input's: the exporter writes the size out as a formula of the input's."""
    taken, given = model.graph.input[0].type.tensor_type.shape, model.graph.output[0].type.tensor_type.shape
    given.CopyFrom(taken)
    serialized: bytes = model.SerializeToString()
    return serialized


def example_inputs(net: nn.Module, batch: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Values of a network's further inputs, (batch,) or (batch, K): the neutral ones, then random ones in each row.

    A style's code is one, of pictures, and a rotation is one: what no network will be told says nothing of it.
    """

    def values(name: str, declared: Value) -> Tensor:
        kind = KINDS[name]
        if kind.needed:
            with torch.no_grad():
                code: Tensor = net.encode(_smooth_noise((48, 64), generator, batch))  # type: ignore[operator]
            return code
        first = torch.tensor(neutral(name, declared), dtype=torch.float32)[None]
        if name == "rotation":
            c = math.isqrt(first.shape[1])
            turn = torch.linalg.qr(torch.randn(batch - 1, c, c, generator=generator))[0] - torch.eye(c)
            return torch.cat([first, turn.flatten(1)])
        if kind.vector:
            return torch.cat([first, torch.randn(batch - 1, first.shape[1], generator=generator)])
        random = torch.rand(batch - 1, *first.shape[1:], generator=generator)
        within = kind.least + (kind.most - kind.least) * random
        return torch.cat([first, random / random.sum(1, keepdim=True) if kind.shares else within])

    return {name: values(name, declared) for name, declared in nets.inputs_of(net).items()}


def check_parity(net: nn.Module, graph: bytes, sizes: Sequence[tuple[int, int]] = PARITY_SIZES) -> float:
    """Largest absolute difference between torch and onnxruntime over random pictures and inputs; see `compare`.

    Args:
        net: float32, on the CPU, in evaluation mode.

    Raises:
        FstError: it is 1/255 or more, or not a number; the graph gives another size or cannot be run.
    """
    return compare(net, runner(graph, "stylized"), sizes)


def runner(graph: bytes, output: str) -> Callable[..., Tensor]:
    """run(image, **further) of a graph on the processor, as the network is called; FstError where it cannot be run."""
    session = session_of(graph)

    def run(image: Tensor, **further: Tensor) -> Tensor:
        given = {"image": image} | further
        try:
            return torch.from_numpy(session.run([output], {name: each.numpy() for name, each in given.items()})[0])
        except Exception as error:  # onnxruntime's errors have no class of their own
            size = f"{image.shape[-2]}x{image.shape[-1]}"
            raise FstError(f"onnxruntime cannot run the exported graph at {size}: {error}") from error

    return run


def session_of(graph: bytes) -> Any:
    """An onnxruntime session on the processor. Raises FstError where the graph cannot be loaded."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised: no need to print it, too
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no class of their own
        raise FstError(f"onnxruntime cannot load the exported graph: {error}") from error


def compare(net: nn.Module, run: Callable[..., Tensor], sizes: Sequence[tuple[int, int]]) -> float:
    """Largest absolute difference between `net` and its export over random pictures of `sizes`, (height, width).

    Two pictures a size: one with the neutral value of every further input, one with a random value.

    Raises:
        FstError: it is 1/255 or more, or not a number; the export gives another size.
    """
    generator, worst = torch.Generator().manual_seed(1), 0.0
    for size in sizes:
        image = _smooth_noise(size, generator)
        further = example_inputs(net, len(image), generator)
        with torch.no_grad():
            wanted, got = net(image, **further), run(image, **further)
        if got.shape != wanted.shape:
            raise FstError(f"the exported graph gives {tuple(got.shape)} where torch gives {tuple(wanted.shape)}")
        worst = float(np.maximum(worst, (got - wanted).abs().max().item()))  # unlike max(), it keeps a NaN
    if not worst < MAX_DIFFERENCE:
        raise FstError(f"the exported graph differs from torch by {worst * 255:.2f}/255; 1/255 is allowed")
    return worst


def _smooth_noise(size: tuple[int, int], generator: torch.Generator, count: int = 2) -> Tensor:
    """Pictures (count, 3, *size), nearer to photos than white noise is."""
    coarse = torch.rand(count, 3, *(max(2, length // 8) for length in size), generator=generator)
    return nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1)


def halve_weights(graph: bytes) -> bytes:
    """The same graph, its weights of 256 numbers and more stored as float16; what runs is float32.

    Each keeps its name and goes through a Cast, which onnxruntime folds when it loads the graph.
    """
    import onnx

    model = onnx.load_from_string(graph)
    casts, renamed = [], {}
    for weight in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.size >= 256:
            with np.errstate(over="ignore"):  # what becomes infinite shows in the pictures
                half = values.astype(np.float16)
            weight.CopyFrom(onnx.numpy_helper.from_array(half, weight.name))
            renamed[weight.name] = f"{weight.name}_float32"
            casts.append(
                onnx.helper.make_node("Cast", [weight.name], [renamed[weight.name]], to=onnx.TensorProto.FLOAT)
            )
    nodes = list(model.graph.node)
    for node in nodes:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    del model.graph.node[:]
    model.graph.node.extend(casts + nodes)
    del model.graph.value_info[:]  # they say what was float32
    serialized: bytes = model.SerializeToString()
    return serialized


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporter talks to stdout, to logging and through warnings; none of it is for the user."""
    loggers = [logging.getLogger(name) for name in ("", "torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

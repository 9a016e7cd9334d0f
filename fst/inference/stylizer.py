"""Repaint pictures with a model file, on onnxruntime."""

import contextlib
import io
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from fst import bundle, images
from fst.errors import FstError, UsageError
from fst.inference import memory
from fst.inputs import Value, neutral, settle

if TYPE_CHECKING:
    import onnxruntime
    from PIL.Image import Image

    AnyPicture = TypeVar("AnyPicture", np.ndarray[Any, Any], Image)

Arrays = dict[str, np.ndarray[Any, np.dtype[np.float32]]]

_SMALLEST_PX = 16  # what networks take; smaller pictures are padded
_SHARE = 0.85  # of the free memory that a picture may take

# Where a graph can run, best first. TensorRT builds an engine for minutes at every new size: only when asked for.
PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
_OPTIONS = {"cuda": {"cudnn_conv_algo_search": "HEURISTIC"}}  # else every new size waits for a search


class Plan(NamedTuple):
    """At which size (width, height) a picture will be painted, whether frugally, and why smaller if so."""

    size: tuple[int, int]
    frugal: bool
    note: str | None


class Stylizer:
    """A model, ready to repaint pictures.

        from fst import Stylizer
        restyled = Stylizer("starry_night")(photo)

    Some models can be told more, photo by photo, see `inputs`: `stylizer(photo, strength=0.5)`.

    Args:
        model: a shipped style's name, or a model file (.onnx); of a network of several styles, one as MODEL:STYLE.
        keep_colors: keep the photo's colours and take only the style's lightness.
        max_side: longest side of the result, in pixels; larger pictures are made smaller first.
        threads: processor threads; None takes the cores that this process may use.
        memory_bytes: memory that a picture may take; None looks at what is free when it comes.
        provider: one of PROVIDERS; None takes the best that onnxruntime has here, but for TensorRT.

    Raises:
        UsageError: no such model, style or file, a wrong argument, or a provider that onnxruntime does not have here.
        BundleError: the file is not a whole, safe model file.
    """

    def __init__(
        self,
        model: str | Path = "starry_night",
        *,
        keep_colors: bool = False,
        max_side: int | None = None,
        threads: int | None = None,
        memory_bytes: float | None = None,
        provider: str | None = None,
    ) -> None:
        self._configure(keep_colors, max_side, threads, memory_bytes)
        self.provider = None if provider is None else _present(provider)
        file, style = bundle.split_style(model)
        self._bundle = bundle.read(bundle.locate(file))
        self.path = self._bundle.path
        self._describe(self._bundle.recipe, style)
        self._sessions: dict[bool, onnxruntime.InferenceSession] = {}

    def _configure(
        self, keep_colors: bool, max_side: int | None, threads: int | None, memory_bytes: float | None
    ) -> None:
        if max_side is not None and max_side < 1:
            raise UsageError(f"the longest side must be at least 1 pixel, not {max_side}")
        if threads is not None and threads < 1:
            raise UsageError(f"threads must be at least 1, not {threads}")
        self.keep_colors, self.max_side, self.memory_bytes = keep_colors, max_side, memory_bytes
        self.threads = threads or _cores()

    def _describe(self, recipe: bundle.Recipe, style: str | None) -> None:
        self.recipe, self._wishes = recipe, {"styles": style}
        self.inputs()

    def inputs(self, **wishes: Any) -> dict[str, Value]:
        """What the network is told beside the photo: of each input that it has, what is wished, else what is usual.

        Args:
            strength: how much style, from 0, the photo itself, to 1, the usual.
            stroke: size of the strokes, from 0.5 to 2; 1, the usual, is as the style was learnt.
            styles: one of the learnt styles by its name, or a mix {"wave": 0.7, "udnie": 0.3} of weights that sum to
                1; the first is usual, or the one in MODEL:STYLE.

        Raises:
            UsageError: an input that the model does not have, a value out of its range, or an unknown style.
        """
        name, styles = self.recipe.name, self.recipe.style_names
        usual = settle(self.recipe.inputs, self._wishes, styles=styles, model=name)
        return settle(usual, wishes, styles=styles, model=name)

    def __call__(self, picture: "AnyPicture", **wishes: Any) -> "AnyPicture":
        """Repaint a picture: same type out as in. `wishes` are those of `inputs`, here and below.

        A PIL image gives a PIL image (upright, sRGB, with its transparency); an array (H, W, 3) gives an array: uint8
        gives uint8, floats in [0, 1] give floats. The size is kept, unless `max_side` or the memory says otherwise.

        Raises:
            UsageError: something that is not a picture, or a wish that cannot be.
        """
        if isinstance(picture, np.ndarray):
            return self._array(picture, **wishes)
        from PIL import Image

        if not isinstance(picture, Image.Image):
            raise UsageError(f"a picture is a PIL image or a numpy array, not {type(picture).__name__}")
        return images.to_pil(self.restyle(images.from_pil(picture), **wishes))

    def _array(self, picture: np.ndarray[Any, Any], **wishes: Any) -> np.ndarray[Any, Any]:
        """(H, W, 3) uint8 or floating -> the same."""
        if picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
            raise UsageError(f"a picture as an array is (height, width, 3), not {picture.shape}")
        if picture.dtype == np.uint8:
            return self.repaint(picture, **wishes)
        if not np.issubdtype(picture.dtype, np.floating):
            raise UsageError(f"a picture as an array is uint8, or floats in [0, 1], not {picture.dtype}")
        planes = np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32).clip(0, 1)
        plan = self.plan((picture.shape[1], picture.shape[0]))
        if self.keep_colors or plan.size != (picture.shape[1], picture.shape[0]):
            planes = images.to_float(self.repaint(images.to_uint8(planes), **wishes))
        else:
            planes = self._run(planes, frugal=plan.frugal, **wishes)
        restyled: np.ndarray[Any, Any] = planes[0].transpose(1, 2, 0).astype(picture.dtype)
        return restyled

    def restyle(self, picture: images.Picture, **wishes: Any) -> images.Picture:
        """Repaint what `images.read` gave; transparency and colour profile go along."""
        pixels = self.repaint(picture.pixels, **wishes)
        alpha, size = picture.alpha, (pixels.shape[1], pixels.shape[0])
        if alpha is not None and size != picture.size:
            alpha = images.resize(alpha, size)
        return images.Picture(pixels, alpha, picture.icc_profile)

    def repaint(self, pixels: images.Pixels, **wishes: Any) -> images.Pixels:
        """(H, W, 3) uint8 sRGB -> the same, at the size that `plan` says."""
        plan = self.plan((pixels.shape[1], pixels.shape[0]))
        if plan.size != (pixels.shape[1], pixels.shape[0]):
            pixels = images.resize(pixels, plan.size)
        restyled = images.to_uint8(self._run(images.to_float(pixels), frugal=plan.frugal, **wishes))
        return images.keep_colors(restyled, pixels) if self.keep_colors else restyled

    def plan(self, size: tuple[int, int]) -> Plan:
        """How a picture of (width, height) will be painted, in the memory there is."""
        width, height = images.fit_within(size, self.max_side) if self.max_side else size
        free = _SHARE * (memory.available_bytes() if self.memory_bytes is None else self.memory_bytes)
        fast, frugal = (memory.needed_bytes(width * height, self.recipe.net, frugal=f) for f in (False, True))
        if fast <= free:
            return Plan((width, height), False, None)
        if frugal <= free:
            return Plan((width, height), True, None)
        base = memory.needed_bytes(0, self.recipe.net, frugal=True)
        if free <= base:
            raise FstError(f"only {free / 1e6:.0f} MB of memory are free, too little for any picture")
        side = int(max(width, height) * ((free - base) / (frugal - base)) ** 0.5)
        fitting = images.fit_within((width, height), max(1, side))
        instead = f"painted at {fitting[0]}x{fitting[1]} and not at {width}x{height}"
        note = f"{instead}, which takes {frugal / 1e9:.1f} GB of memory where {free / 1e9:.1f} GB can be had"
        return Plan(fitting, True, note)

    def _run(
        self, image: np.ndarray[Any, np.dtype[np.float32]], *, frugal: bool, **wishes: Any
    ) -> np.ndarray[Any, Any]:
        """(B, 3, H, W) float32 in [0, 1] -> the same."""
        declared, settled = self.recipe.inputs, self.inputs(**wishes)
        values = {name: neutral(name, each) if each is declared[name] else each for name, each in settled.items()}
        rows = {name: np.asarray(value, np.float32) for name, value in values.items()}
        further = {name: np.broadcast_to(row, (len(image), *row.shape)).copy() for name, row in rows.items()}
        height, width = image.shape[-2:]
        missing = [(0, max(0, _SMALLEST_PX - length)) for length in (height, width)]
        if any(after for _, after in missing):
            image = np.pad(image, [(0, 0), (0, 0), *missing], mode="edge")
        result: np.ndarray[Any, Any] = self._paint({"image": image} | further, frugal=frugal)[..., :height, :width]
        return result

    def _paint(self, given: Arrays, *, frugal: bool) -> np.ndarray[Any, Any]:
        """The picture, for the network's inputs by name."""
        session = self._session(frugal)
        import onnxruntime

        try:
            (stylized,) = session.run(["stylized"], given)
        except onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException as error:
            reason, (height, width) = str(error).splitlines()[0], given["image"].shape[-2:]
            raise FstError(
                f"onnxruntime could not paint {width}x{height} pixels ({reason}); try a smaller size"
            ) from error
        painted: np.ndarray[Any, Any] = stylized
        return painted

    def _session(self, frugal: bool) -> "onnxruntime.InferenceSession":
        if frugal not in self._sessions:
            self._sessions.clear()  # never two copies of the weights
            self._sessions[frugal] = _make_session(self._bundle, self.threads, self.provider, arena=not frugal)
        return self._sessions[frugal]


def _make_session(
    model: bundle.Bundle, threads: int, provider: str | None, *, arena: bool
) -> "onnxruntime.InferenceSession":
    """A session on `provider`, or on the best there is; what it cannot run, the processor does.

    Measured on 2 cores: spinning threads are a tenth faster on an idle machine, up to twice as slow beside another
    program. The plan of memory that onnxruntime keeps for each size takes a third more memory and saves no time.
    """
    import onnxruntime

    if not arena:
        memory.return_freed_blocks()
    chosen = provider or _best(onnxruntime.get_available_providers())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_cpu_mem_arena = arena
    options.enable_mem_pattern = False
    options.log_severity_level = 4  # what goes wrong comes as an exception
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if chosen in ("cuda", "tensorrt") and hasattr(onnxruntime, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()  # CUDA and cuDNN from their Python packages
    providers: list[Any] = [(PROVIDERS[name], _OPTIONS.get(name, {})) for name in dict.fromkeys((chosen, "cpu"))]
    try:
        session = onnxruntime.InferenceSession(model.graph, options, providers=providers)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise bundle.BundleError(f"{model.path}: onnxruntime cannot run it ({reason})") from error
    wanted, has = {"image", *model.recipe.inputs}, {each.name for each in session.get_inputs()}
    if wanted != has:
        raise bundle.BundleError(
            f"{model.path}: its graph takes {', '.join(sorted(has))}, its recipe says {', '.join(sorted(wanted))}: "
            "export it again"
        )
    if provider and PROVIDERS[provider] not in session.get_providers():
        raise FstError(
            f"onnxruntime has {provider!r} but cannot start it: look at its driver and libraries, or use cpu"
        )
    return session


def _best(available: list[str]) -> str:
    return next(name for name, each in PROVIDERS.items() if each in available and name != "tensorrt")


def _present(provider: str) -> str:
    """`provider`, where onnxruntime has it. Raises UsageError with those that it has."""
    import onnxruntime

    present = [name for name, each in PROVIDERS.items() if each in onnxruntime.get_available_providers()]
    if provider not in present:
        raise UsageError(f"onnxruntime has no provider {provider!r} here; it has {', '.join(present)}")
    return provider


def _cores() -> int:
    """Physical cores that this process may use, in the share of them that its control group has."""
    if not hasattr(os, "sched_getaffinity"):
        import psutil

        return psutil.cpu_count(logical=False) or os.cpu_count() or 1
    cores: set[str] = set()
    for number in os.sched_getaffinity(0):
        try:  # the threads of one core
            cores.add(Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list").read_text())
        except OSError:
            cores.add(str(number))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(len(cores), math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no such group, or "max"
        return len(cores)

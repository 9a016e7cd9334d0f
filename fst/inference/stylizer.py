"""Repaint pictures with a model file, on onnxruntime."""

import contextlib
import io
import math
import os
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from fst import bundle, images
from fst.errors import FstError, UsageError
from fst.inference import memory, style_pictures
from fst.inference.style_pictures import StylePicture
from fst.inputs import KINDS, STYLE_SIZES_PX, Value, neutral, settle, whole

if TYPE_CHECKING:
    import onnxruntime
    from PIL.Image import Image

    AnyPicture = TypeVar("AnyPicture", np.ndarray[Any, Any], Image)

Floats = np.ndarray[Any, np.dtype[np.float32]]
Arrays = dict[str, Floats]

_SMALLEST_PX = 16  # what networks take; smaller pictures are padded
_SHARE = 0.85  # of the free memory that a picture may take
_MOST_CODES = 64  # kept

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
        style_size: longest side, in pixels, at which a picture is seen as a style, see `encode`.

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
        style_size: int = 512,
    ) -> None:
        self._configure(keep_colors, max_side, threads, memory_bytes, style_size)
        self.provider = None if provider is None else _present(provider)
        file, style = bundle.split_style(model)
        self._bundle = bundle.read(bundle.locate(file))
        self.path = self._bundle.path
        self._describe(self._bundle.recipe, style)
        self._sessions: dict[bool, onnxruntime.InferenceSession] = {}
        self._encoder: onnxruntime.InferenceSession | None = None

    def _configure(
        self, keep_colors: bool, max_side: int | None, threads: int | None, memory_bytes: float | None, style_size: int
    ) -> None:
        if max_side is not None and max_side < 1:
            raise UsageError(f"the longest side must be at least 1 pixel, not {max_side}")
        if threads is not None and threads < 1:
            raise UsageError(f"threads must be at least 1, not {threads}")
        least, most = STYLE_SIZES_PX
        if not least <= style_size <= most:
            raise UsageError(f"a style is seen at {least} to {most} pixels, not {style_size}")
        self.keep_colors, self.max_side, self.memory_bytes = keep_colors, max_side, memory_bytes
        self.threads, self.style_size = threads or _cores(), style_size
        self._codes: OrderedDict[str, Floats] = OrderedDict()  # by the picture's hash

    def _describe(self, recipe: bundle.Recipe, style: str | None) -> None:
        self.recipe, self._wishes = recipe, {"styles": style}
        self._settle({})

    def inputs(self, **wishes: Any) -> dict[str, Value]:
        """What the network is told beside the photo: of each input that it has, what is wished, else what is usual.

        Args:
            style_image: a picture to paint like, as `encode` takes it, or several: {picture: weight}, or a list of
                (picture, weight), of weights that sum to 1. Each is encoded once, however many photos are painted.
            strength: how much style, from 0, the photo itself, to 1, the usual.
            stroke: size of the strokes, from 0.5 to 2; 1, the usual, is as the style was learnt.
            styles: one of the learnt styles by its name, or a mix {"wave": 0.7, "udnie": 0.3} of weights that sum to
                1; the first is usual, or the one in MODEL:STYLE.
            noise: which of many results, so many numbers; see fst.inference.variations.draw.

        Raises:
            UsageError: an input that the model does not have, a value out of its range, an unknown style, or none
                where the model takes it from a picture.
            FstError: a style's picture cannot be read, or the model's encoder is not there.
        """
        image = wishes.pop("style_image", None)
        if image is not None:
            if wishes.get("style_code") is not None:
                raise UsageError("style_image and style_code say the same: leave one out")
            wishes["style_code"] = self._mixed(image)
        settled = self._settle(wishes)
        for name in settled:
            if KINDS[name].needed and isinstance(settled[name], int):
                raise UsageError(f"{self.recipe.name} takes its style from a picture: --style-image PICTURE")
        return settled

    def _settle(self, wishes: Mapping[str, Any]) -> dict[str, Value]:
        name, styles = self.recipe.name, self.recipe.style_names
        usual = settle(self.recipe.inputs, self._wishes, styles=styles, model=name)
        return settle(usual, wishes, styles=styles, model=name)

    def encode(self, picture: StylePicture) -> Floats:
        """The code (K,) of a style's picture: a file, a PIL image or an array (H, W, 3), uint8 or floats in [0, 1].

        It is seen at `style_size` pixels, transparency laid on white; larger gives larger strokes. Codes can be kept
        (a file of np.save is taken in a picture's place) and mixed: they are the wish `style_code`.

        Raises:
            UsageError: the model takes no style from pictures; no such picture, one of less than 16 pixels a side,
                a code of another model.
            FstError: a picture or the model's encoder cannot be read, or the memory does not suffice.
        """
        if "style_code" not in self.recipe.inputs:
            raise UsageError(f"{self.recipe.name} takes no style from a picture: leave --style-image out")
        key = style_pictures.fingerprint(picture)
        if key not in self._codes:
            if style_pictures.is_code(picture):
                self._codes[key] = style_pictures.read_code(picture, self.recipe.inputs["style_code"])
            else:
                self._codes[key] = self._encoded(style_pictures.at_size(picture, self.style_size))
            while len(self._codes) > _MOST_CODES:
                self._codes.popitem(last=False)
        self._codes.move_to_end(key)
        return self._codes[key]

    def _encoded(self, pixels: images.Pixels) -> Floats:
        """(H, W, 3) uint8 -> (K,)."""
        height, width = pixels.shape[:2]
        needed, free = memory.encoder_bytes(width * height, self.recipe.net), self._free_bytes()
        if needed > free:
            raise FstError(
                f"to see a style at {width}x{height} takes {needed / 1e9:.1f} GB of memory where {free / 1e9:.1f} GB "
                "can be had: choose a smaller --style-size"
            )
        code: Floats = self._encode(images.to_float(pixels))[0]
        return code

    def _mixed(self, image: Any) -> Floats:
        """The code of a picture, or of several with weights."""
        if not isinstance(image, Mapping | list | tuple):
            return self.encode(image)
        pairs = list(image.items() if isinstance(image, Mapping) else image)
        names = [Path(picture).name if isinstance(picture, str | Path) else "picture" for picture, _ in pairs]
        weights = whole(names, [weight for _, weight in pairs])
        codes = [np.float32(weight) * self.encode(picture) for (picture, _), weight in zip(pairs, weights, strict=True)]
        mixed: Floats = np.sum(codes, 0)
        return mixed

    def _encode(self, image: Floats) -> Floats:
        """(1, 3, H, W) float32 in [0, 1] -> (1, K)."""
        if self._encoder is None:
            self._encoder = _make_session(
                self._read_encoder(), self.threads, self.provider, arena=False, output="style_code"
            )
        return _run_graph(self._encoder, "style_code", {"image": image})

    def _read_encoder(self) -> bundle.Bundle:
        path = bundle.encoder_of(self.path)
        if not path.is_file():
            raise FstError(f"{path} is not there: it reads style pictures, and belongs beside {self.path}")
        encoder = bundle.read(path)
        own, other = ((r.name, r.net, r.steps, r.created) for r in (self.recipe, encoder.recipe))
        if own != other:
            raise bundle.BundleError(f"{path} is of another model than {self.path}: take both files of one export")
        return encoder

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
        pixels = images.from_array(picture)
        plan = self.plan((picture.shape[1], picture.shape[0]))
        if picture.dtype == np.uint8:
            return self.repaint(pixels, plan, **wishes)
        if self.keep_colors or plan.size != (picture.shape[1], picture.shape[0]):
            planes = images.to_float(self.repaint(pixels, plan, **wishes))
        else:
            planes = np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32).clip(0, 1)
            planes = self._run(planes, frugal=plan.frugal, **wishes)
        restyled: np.ndarray[Any, Any] = planes[0].transpose(1, 2, 0).astype(picture.dtype)
        return restyled

    def restyle(self, picture: images.Picture, plan: Plan | None = None, **wishes: Any) -> images.Picture:
        """Repaint what `images.read` gave, by `plan`; transparency and colour profile go along."""
        return images.with_pixels(picture, self.repaint(picture.pixels, plan, **wishes))

    def repaint(self, pixels: images.Pixels, plan: Plan | None = None, **wishes: Any) -> images.Pixels:
        """(H, W, 3) uint8 sRGB -> the same, at the size that `plan` says; None plans now."""
        plan = plan or self.plan((pixels.shape[1], pixels.shape[0]))
        if plan.size != (pixels.shape[1], pixels.shape[0]):
            pixels = images.resize(pixels, plan.size)
        restyled = images.to_uint8(self._run(images.to_float(pixels), frugal=plan.frugal, **wishes))
        return images.keep_colors(restyled, pixels) if self.keep_colors else restyled

    def plan(self, size: tuple[int, int]) -> Plan:
        """How a picture of (width, height) will be painted, in the memory there is."""
        width, height = images.fit_within(size, self.max_side) if self.max_side else size
        free = self._free_bytes()
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

    def _free_bytes(self) -> float:
        return _SHARE * (memory.available_bytes() if self.memory_bytes is None else self.memory_bytes)

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
        return _run_graph(self._session(frugal), "stylized", given)

    def _session(self, frugal: bool) -> "onnxruntime.InferenceSession":
        if frugal not in self._sessions:
            self._sessions.clear()  # never two copies of the weights
            self._sessions[frugal] = _make_session(self._bundle, self.threads, self.provider, arena=not frugal)
        return self._sessions[frugal]


def _run_graph(session: "onnxruntime.InferenceSession", output: str, given: Arrays) -> Floats:
    import onnxruntime

    try:
        made: Floats = session.run([output], given)[0]
    except onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException as error:
        reason, (height, width) = str(error).splitlines()[0], given["image"].shape[-2:]
        raise FstError(f"onnxruntime could not paint {width}x{height} pixels ({reason}); try a smaller size") from error
    return made


def _make_session(
    model: bundle.Bundle, threads: int, provider: str | None, *, arena: bool, output: str = "stylized"
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
    if (makes := {each.name for each in session.get_outputs()}) != {output}:
        raise bundle.BundleError(f"{model.path}: its graph makes {', '.join(sorted(makes))}, and not {output}")
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

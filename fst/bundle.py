"""The model file: an ONNX graph that carries its own recipe, with a `.safetensors` twin for those who go on training.

ONNX is protobuf, where messages concatenate: a bundle is a graph's bytes followed by two entries of `metadata_props`,
`fst.recipe` (JSON) and `fst.sha256` (over the recipe and every other byte). Walking the top-level fields is enough to
read and write it, so neither torch nor onnx is imported, and nothing is ever unpickled. The hash tells a damaged file
from a whole one. It is no signature: weights in other files, which a runtime would open, are refused as well. The two
entries and the making of the hash stay the same in every later `FORMAT`.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import cached_property
from io import BytesIO
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, BinaryIO, Self, get_origin

from fst import inputs
from fst.errors import FstError, UsageError, nearest
from fst.files import whole_file
from fst.paths import carried
from fst.version import __version__

if TYPE_CHECKING:
    import numpy as np

    Tensors = dict[str, np.ndarray[Any, Any]]

FORMAT = 1

_RECIPE, _DIGEST = "fst.recipe", "fst.sha256"
_MOST_BYTES = 2**31 - 1  # protobuf reads no more
_MOST_RECIPE_BYTES = 2**22
_ENCODER = ".encoder.onnx"
_NO_WEIGHTS = (7, 9)  # TensorProto.DataType: int64, bool
_AGAIN = "copy or download it again"

# The protobuf messages of ONNX in which a tensor may lie, by field number (onnx.proto).
_INSIDE: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 25: "Function"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}


class BundleError(FstError):
    """A model file is missing, damaged, unsafe, too new, or something else altogether; or cannot be written."""


@dataclass(frozen=True)
class Recipe:
    """How a model came to be: enough to run it rightly, credit it and train it again.

    Values become plain JSON ones on the way in (tuples lists, numpy's numbers Python's, NaN and infinity None), so that
    `from_json(to_json())` is an equal recipe. Raises BundleError for a value of the wrong type.
    """

    name: str  # one printable line without slashes: it becomes part of file names
    method: str = "perstyle"
    net: dict[str, Any] = field(default_factory=dict)
    styles: list[dict[str, Any]] = field(default_factory=list)
    inputs: dict[str, Any] = field(default_factory=dict)  # beside the photo, with neutral values: fst/inputs.py
    losses: dict[str, Any] = field(default_factory=dict)
    perceptual: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    seed: int | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    license: str | None = None
    fst_version: str = __version__
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    extra: dict[str, Any] = field(default_factory=dict)  # keys that a newer fst wrote: kept, not understood

    def __post_init__(self) -> None:
        try:
            text = json.dumps(vars(self), default=lambda value: value.item(), ensure_ascii=False)
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise BundleError(f"the recipe holds what JSON cannot say: {error}") from error
        plain = json.loads(text.encode(errors="replace"), parse_constant=lambda _: None)  # JSON knows no NaN
        for each in fields(self):
            kind: Any = each.type if isinstance(each.type, UnionType) else get_origin(each.type) or each.type
            value = plain[each.name]
            if not isinstance(value, kind) or isinstance(value, bool):
                raise BundleError(
                    f"the recipe's {each.name!r} should be {getattr(kind, '__name__', kind)}, not {value!r:.40}"
                )
            object.__setattr__(self, each.name, value)
        if not self.name or not self.name.isprintable() or set(self.name) & set("/\\"):
            raise BundleError(f"the recipe's 'name' should be one line without slashes, not {self.name!r:.40}")
        if self.steps < 0 or not all(isinstance(style, dict) for style in self.styles):
            raise BundleError("the recipe's 'steps' should be 0 or more, its 'styles' a list of dict")
        if wrong := inputs.problem(self.inputs):
            raise BundleError(f"the recipe's 'inputs' are not those of this fst: {wrong}")
        names, mixed = self.style_names, self.inputs.get("styles")
        if mixed is not None and not len(mixed) == len(names) == len(set(names)):
            raise BundleError(f"the recipe mixes {len(mixed)} styles, and names {', '.join(names) or 'none'}")

    @property
    def style_names(self) -> list[str]:
        """The names of `styles`, in their order."""
        return [str(style.get("name")) for style in self.styles]

    def to_json(self) -> str:
        """The recipe as one line of JSON, `format` first. Raises BundleError where it is too long for a file."""
        known = {"format": FORMAT} | vars(self)
        del known["extra"]
        if not self.inputs:  # as before there were any
            del known["inputs"]
        text = json.dumps(known | self.extra | known, ensure_ascii=False)
        if len(text.encode()) > _MOST_RECIPE_BYTES:
            raise BundleError(f"the recipe is longer than {_MOST_RECIPE_BYTES} bytes: keep large data elsewhere")
        return text

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote. Raises BundleError for other text, a missing key, a wrong type, a newer format."""
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"the recipe is not valid JSON: {error}") from error
        version = raw.pop("format", None) if isinstance(raw, dict) else None
        if type(version) is not int or version < 1:
            raise BundleError("the recipe should be a JSON object with a 'format' from 1")
        if version > FORMAT:
            raise BundleError(f"made by a newer fst (format {version}, this fst knows {FORMAT}): upgrade fst")
        raw.setdefault("inputs", {})
        known = [each.name for each in fields(cls) if each.name != "extra"]
        if missing := [key for key in known if key not in raw]:
            raise BundleError(f"the recipe lacks {', '.join(missing)}")
        return cls(**{key: raw.pop(key) for key in known}, extra=raw)


@dataclass(frozen=True)
class Bundle:
    """A model file, read whole and verified."""

    path: Path
    recipe: Recipe
    graph: bytes = field(repr=False)  # the whole file, ready for onnxruntime.InferenceSession(graph)

    @cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of the file, as `sha256sum` prints it."""
        return hashlib.sha256(self.graph).hexdigest()

    @property
    def weights(self) -> int:
        """How many numbers the graph holds; what it counts and chooses by, int64 and bool, is not among them."""
        file = BytesIO(self.graph)
        return sum(
            _numbers(file, *tensor)
            for graph in _messages(file, 0, len(self.graph), 7)
            for tensor in _messages(file, *graph, 5)
        )


def read(path: str | Path) -> Bundle:
    """Read and verify an `.onnx` bundle. Raises BundleError for anything else."""
    with _opened(Path(path)) as (file, twin):
        if twin:
            raise BundleError("weights for training, not a model to run: give the .onnx file beside it")
        data = file.read()
        ours, rest = _layout(BytesIO(data))
        recipe = _recipe(ours, lambda text: _digest(text, (memoryview(data)[start:end] for start, end in rest)))
        _refuse_unsafe(data)
        return Bundle(Path(path), recipe, data)


def read_recipe(path: str | Path, *, verify: bool = False) -> Recipe:
    """The recipe of an `.onnx` or `.safetensors` file; only `verify` reads, and checks, the rest of the file."""
    with _opened(Path(path)) as (file, twin):
        if not verify:
            return _recipe(_header(file) if twin else _layout(file)[0])
    return read_safetensors(path)[1] if twin else read(path).recipe


def read_safetensors(path: str | Path) -> "tuple[Tensors, Recipe]":
    """Read and verify a `.safetensors` twin: arrays by name, and the recipe. Raises BundleError for anything else."""
    with _opened(Path(path)) as (file, twin):
        if not twin:
            raise BundleError("not a .safetensors file: give the one beside the .onnx model")
        import safetensors.numpy

        data = file.read()
        try:
            tensors = safetensors.numpy.load(data)
        except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
            raise BundleError(f"damaged ({error}); {_AGAIN}") from error
        return tensors, _recipe(_header(BytesIO(data)), lambda text: _digest(text, _parts(tensors)))


def read_weights(path: str | Path) -> "tuple[Tensors, Recipe]":
    """The weights in either kind of file, verified: a `.safetensors` file's tensors, an `.onnx` graph's initializers.

    An exporter may have renamed, folded or added initializers. Reading them takes the onnx package.
    """
    if Path(path).suffix == ".safetensors":
        return read_safetensors(path)
    bundle = read(path)
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    except ImportError as error:
        raise BundleError(
            f"{path}: its weights need the onnx package: pip install '.[train]' in fst's checkout"
        ) from error
    try:
        found = onnx.load_from_string(bundle.graph).graph.initializer
        return {each.name: onnx.numpy_helper.to_array(each) for each in found}, bundle.recipe
    except (DecodeError, ValueError, TypeError, KeyError) as error:
        raise BundleError(f"{path}: its weights cannot be read ({error}); export it again") from error


def write_onnx(path: str | Path, graph: bytes, recipe: Recipe, *, encoder: bytes | None = None) -> None:
    """Write `graph` (a serialised ModelProto; an earlier bundle's fst entries are dropped) and `recipe`, atomically.

    `encoder` is the graph that makes codes of style pictures, for `encoder_of(path)`: both files are there, or neither.
    """
    with _naming(Path(path), ".onnx"):
        data = _bundled(graph, recipe)
        beside = b"" if encoder is None else _bundled(encoder, replace(recipe, inputs={}))
    with whole_file(Path(path)) as part:
        part.write_bytes(data)
        if beside:
            with whole_file(encoder_of(path)) as second:
                second.write_bytes(beside)


def _bundled(graph: bytes, recipe: Recipe) -> bytes:
    rest = b"".join(graph[start:end] for start, end in _layout(BytesIO(graph))[1])
    _refuse_unsafe(rest)
    text = recipe.to_json().encode()
    return rest + _entry(_RECIPE, text) + _entry(_DIGEST, _digest(text, [rest]).encode())


def write_safetensors(path: str | Path, tensors: "Tensors", recipe: Recipe) -> None:
    """Write `tensors` (name to array) and `recipe`, atomically."""
    import numpy as np
    import safetensors.numpy

    with _naming(Path(path), ".safetensors"):
        dense = {name: np.asarray(each, each.dtype.newbyteorder("<"), order="C") for name, each in tensors.items()}
        text = recipe.to_json().encode()
        metadata = {_RECIPE: text.decode(), _DIGEST: _digest(text, _parts(dense))}
        data = safetensors.numpy.save(dense, metadata)
    with whole_file(Path(path)) as part:
        part.write_bytes(data)


def encoder_of(path: str | Path) -> Path:
    """The file beside a model that makes codes of style pictures for it."""
    return Path(path).with_suffix(_ENCODER)


def is_encoder(path: str | Path) -> bool:
    """Whether a file is such a one, by its name."""
    return str(path).endswith(_ENCODER)


def refuse_encoder(path: str | Path) -> None:
    """Raise UsageError for the name of a style encoder, which is no model of its own."""
    if is_encoder(path):
        model = str(path).removesuffix(_ENCODER) + ".onnx"
        raise UsageError(f"{path} reads style pictures for {model}, beside which it belongs: name that one")


def shipped() -> dict[str, Path]:
    """The models that fst carries: name to `.onnx` file, sorted by name; style encoders are no models of their own."""
    files = sorted(carried("checkpoints").glob("*.onnx"))
    return {path.stem: path for path in files if not is_encoder(path)}


def locate(model: str | Path) -> Path:
    """The file of a shipped model's name, or of a path. Raises UsageError where there is none, or only an encoder."""
    refuse_encoder(model)
    text, known = str(model), shipped()
    is_path = bool(Path(text).suffix or set(text) & set("/\\"))
    if text in known or os.path.isfile(text) or (is_path and os.path.exists(text)):
        return known.get(text, Path(text))
    if is_path:
        raise UsageError(f"no such file: {text}; shipped models go by name: {nearest(Path(text).stem, known)}")
    raise UsageError(f"no model is called {text!r}: {nearest(text, known)}")


def split_style(model: str | Path) -> tuple[str, str | None]:
    """MODEL:STYLE -> (MODEL, STYLE), one style of several; a name or path alone, even with a colon -> (it, None)."""
    text = str(model)
    before, colon, style = text.rpartition(":")
    if not (before and colon and style) or os.path.exists(text) or set(style) & set("/\\"):
        return text, None
    return before, style


@contextmanager
def _naming(path: Path, suffix: str = "") -> Iterator[None]:
    """Let what goes wrong inside come out as a BundleError that names `path`; a file to write must end in `suffix`."""
    try:
        if not path.name.endswith(suffix):
            raise BundleError(f"this kind of model file is called NAME{suffix}")
        yield
    except (BundleError, MemoryError) as error:
        raise BundleError(f"{path}: {str(error) or 'too large for the memory of this machine'}") from error
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({(error.strerror or str(error)).lower()})") from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, bool]]:
    """Open what may be a model file, refusing by name and first bytes what is not; also tell whether it is a twin."""
    with _naming(path):
        if not path.is_file():
            raise BundleError(
                "a folder or device, not a model file" if path.exists() else "no such file: check its name"
            )
        with path.open("rb") as file:
            head = file.read(64)
            if not head or file.seek(0, os.SEEK_END) > _MOST_BYTES:
                raise BundleError(f"{'larger than any model file can be' if head else 'empty'}; {_AGAIN}")
            twin = head[6:9] == b"\0\0{"  # its header's length comes first, which may begin as a pickle does
            pickles = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
            if path.suffix.lower() in {".pth", ".pt", ".ckpt", ".pkl"} or (head.startswith(pickles) and not twin):
                raise BundleError(
                    "not opened: a pickled checkpoint may run any code; make a model of another project's checkpoint "
                    "with `fst import FILE -o NAME.onnx`, of fst's own .ckpt with `fst export FILE -o NAME.onnx`"
                )
            if not head.translate(None, bytes(range(32, 127)) + b"\t\r\n"):
                raise BundleError("not a model file but text (if a Git LFS pointer, run `git lfs pull`)")
            file.seek(0)
            yield file, twin


def _recipe(ours: dict[str, bytes], digest: Callable[[bytes], str] | None = None) -> Recipe:
    """The recipe among fst's entries in a file, checked against the hash beside it where `digest` makes one."""
    if not ours:
        raise BundleError("a model, but not one of fst's: no recipe in it; give one that fst exported or imported")
    if ours.keys() != {_RECIPE, _DIGEST} or (digest and digest(ours[_RECIPE]).encode() != ours[_DIGEST]):
        raise BundleError(f"damaged or changed since it was written; {_AGAIN}")
    return Recipe.from_json(ours[_RECIPE].decode(errors="replace"))


def _digest(recipe: bytes, parts: Iterable[bytes | memoryview]) -> str:
    whole = hashlib.sha256(b"fst bundle\n%d\n" % len(recipe) + recipe)
    for part in parts:
        whole.update(part)
    return whole.hexdigest()


def _parts(tensors: "Tensors") -> Iterator[bytes]:
    """Of each tensor, by name: a line that tells what it is, then its bytes."""
    for name, array in sorted(tensors.items()):
        yield json.dumps([name, array.dtype.newbyteorder("<").str, array.shape]).encode() + b"\n"
        yield array.tobytes()


def _header(file: BinaryIO) -> dict[str, bytes]:
    """fst's entries in the header of a safetensors file: 8 bytes of length, then JSON."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > min(size, 10**8):  # as in the safetensors library
        raise BundleError(f"damaged: its header should take {length} bytes; {_AGAIN}")
    try:
        metadata = json.loads(file.read(length)).get("__metadata__", {})
        return {key: text.encode(errors="replace") for key, text in metadata.items() if key.startswith("fst.")}
    except (ValueError, AttributeError, RecursionError) as error:
        raise BundleError(f"damaged ({error}); {_AGAIN}") from error


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1) or b"\x80"  # at the end of the file: until the loop gives up
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise BundleError(f"damaged, or not a model file: it breaks off, or a number in it is too long; {_AGAIN}")


def _fields(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, bool, int, int, int]]:
    """Of each field of the message file[start:end]: number, is it bytes (text, a message), start, payload, end."""
    while start < end:
        file.seek(start)
        tag = _varint(file)
        number, wire, body = tag >> 3, tag & 7, file.tell()
        stop = body + {1: 8, 5: 4}.get(wire, 0)  # 64 and 32 bits
        if wire in (0, 2):
            value = _varint(file)
            body, stop = (body, file.tell()) if wire == 0 else (file.tell(), file.tell() + value)
        if not 0 < number < 2**29 or wire not in (0, 1, 2, 5) or stop > end:
            raise BundleError(f"damaged, or not a model file: byte {start} does not begin a field; {_AGAIN}")
        yield number, wire == 2, start, body, stop
        start = stop


def _messages(file: BinaryIO, start: int, end: int, number: int) -> Iterator[tuple[int, int]]:
    """Where the fields of this number, themselves messages, lie in the message file[start:end]."""
    return ((body, stop) for each, is_bytes, _, body, stop in _fields(file, start, end) if is_bytes and each == number)


def _numbers(file: BinaryIO, start: int, end: int) -> int:
    """How many numbers an initializer, file[start:end], holds; 0 for one that is no weight."""
    dims, kind = list[int](), 0
    for number, is_bytes, _, body, stop in _fields(file, start, end):
        file.seek(body)
        if number == 1:  # dims: one, or packed
            dims.append(_varint(file))
            while is_bytes and file.tell() < stop:
                dims.append(_varint(file))
        elif number == 2:  # data_type
            kind = _varint(file)
    return 0 if kind in _NO_WEIGHTS else math.prod(dims)


def _read(file: BinaryIO, start: int, end: int, most: int = 64) -> bytes:
    file.seek(start)
    return file.read(min(end - start, most))


def _layout(file: BinaryIO) -> tuple[dict[str, bytes], list[tuple[int, int]]]:
    """fst's entries in a ModelProto, and where the rest of it lies. Reads nothing large."""
    ours, rest, graphs = dict[str, bytes](), list[tuple[int, int]](), 0
    for number, is_bytes, start, body, end in _fields(file, 0, file.seek(0, os.SEEK_END)):
        graphs += number == 7 and is_bytes
        inside = _fields(file, body, end) if number == 14 and is_bytes else ()  # metadata_props: key (1), value (2)
        parts = {part: _read(file, at, to, _MOST_RECIPE_BYTES) for part, _, _, at, to in inside}
        name, value = parts.get(1, b"").decode(errors="replace"), parts.get(2, b"")
        if not name.startswith("fst."):
            rest.append((start, end))
            continue
        if name in ours or _read(file, start, end, 2 * _MOST_RECIPE_BYTES) != _entry(name, value):
            raise BundleError(f"damaged: its entry {name!r:.40} is there twice, or not as fst writes it; {_AGAIN}")
        ours[name] = value
    if not graphs:
        raise BundleError("not a model file: no graph in it; give an .onnx file")
    return ours, rest


def _entry(key: str, value: bytes) -> bytes:
    """A metadata entry as it stands in the file: field 14 of ModelProto, holding key (1) and value (2)."""

    def delimited(number: int, payload: bytes) -> bytes:
        head, length = bytes([number << 3 | 2]), len(payload)
        while length > 0x7F:
            head, length = head + bytes([length & 0x7F | 0x80]), length >> 7
        return head + bytes([length]) + payload

    return delimited(14, delimited(1, key.encode()) + delimited(2, value))


def _refuse_unsafe(data: bytes) -> None:
    """Raise BundleError if a tensor of a ModelProto lies in another file, which a runtime would follow."""
    file, waiting = BytesIO(data), [("Model", 0, len(data))]
    while waiting:  # a list instead of recursion: a hostile file may nest as deep as it likes
        message, first, last = waiting.pop()
        for number, is_bytes, _, body, end in _fields(file, first, last):
            if is_bytes and number in _INSIDE[message]:
                waiting.append((_INSIDE[message][number], body, end))
            elif message == "Tensor" and number in (13, 14) and _read(file, body, end) != b"\0":
                raise BundleError("its weights lie in another file, which is not followed: export it with all inside")

"""An .onnx graph in 8-bit integers, kept only where it is faster and its pictures are nearly the same."""

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fst import images
from fst.errors import FstError, UsageError
from fst.export.onnx import quiet, session_of
from fst.inputs import Value, neutral

MAX_MEAN_DIFFERENCE = 2 / 255
_MOST_PHOTOS = 32
_SIDE_PX = 256
_ROUNDS = 9
Photos = Sequence[np.ndarray[Any, np.dtype[np.float32]]]


class Quantised(NamedTuple):
    """A graph in 8-bit integers: its mean absolute difference from the float one, and the milliseconds of both."""

    graph: bytes
    mean_difference: float
    milliseconds: float
    float_milliseconds: float


def read_photos(folder: Path) -> Photos:
    """Up to 32 photos, evenly spread over a folder, at most 256 px a side: (1, 3, H, W) float32 in [0, 1] each.

    Raises:
        UsageError: fewer than 2 photos there.
        FstError: one that cannot be read.
    """
    files = images.find_pictures(folder)
    if len(files) < 2:
        raise UsageError(f"{folder}: calibration takes a folder with at least 2 photos; 32 are enough")
    picked = [files[number * len(files) // _MOST_PHOTOS] for number in range(_MOST_PHOTOS)]
    read = (images.read(file) for file in dict.fromkeys(picked))
    return [images.to_float(images.resize(each.pixels, images.fit_within(each.size, _SIDE_PX))) for each in read]


def quantise(graph: bytes, photos: Photos, inputs: Mapping[str, Value] | None = None) -> Quantised:
    """Quantise a graph's convolutions after training: weights by channel, activations by their range on photos.

    Every other photo is for that; speed and difference are measured on the rest, both graphs in turn. Further `inputs`
    have these values, the neutral ones, throughout.

    Raises:
        FstError: the quantised graph is not faster, or differs by more than 2/255 on average; both numbers are told.
    """
    further = {name: np.asarray([neutral(name, value)], np.float32) for name, value in (inputs or {}).items()}
    made = _measure(graph, _quantised(graph, photos[::2], further), photos[1::2], further)
    if made.milliseconds < made.float_milliseconds and made.mean_difference <= MAX_MEAN_DIFFERENCE:
        return made
    raise FstError(
        f"in int8 it takes {made.milliseconds:.1f} ms where float32 takes {made.float_milliseconds:.1f} ms, and "
        f"differs by {made.mean_difference * 255:.2f}/255 on average, 2/255 being allowed: not written; "
        "export it without --int8"
    )


def _quantised(graph: bytes, photos: Photos, further: Mapping[str, Any]) -> bytes:
    import onnxruntime
    import onnxruntime.quantization as ort

    class Reader(ort.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(photos)

        def get_next(self) -> Any:
            photo = next(self.left, None)
            return None if photo is None else {"image": photo, **further}

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        source.write_bytes(graph)
        onnxruntime.set_default_logger_severity(4)
        try:
            with quiet():
                ort.quantize_static(
                    source,
                    target,
                    Reader(),
                    quant_format=ort.QuantFormat.QDQ,
                    op_types_to_quantize=["Conv"],
                    per_channel=True,
                    activation_type=ort.QuantType.QUInt8,
                    weight_type=ort.QuantType.QInt8,
                )
        except Exception as error:  # onnxruntime's errors have no class of their own
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise FstError(f"onnxruntime cannot quantise it ({reason[:200]}); export it without --int8") from error
        finally:
            onnxruntime.set_default_logger_severity(2)
        return target.read_bytes()


def _measure(graph: bytes, made: bytes, photos: Photos, further: Mapping[str, Any]) -> Quantised:
    sessions = session_of(graph), session_of(made)
    taken: tuple[list[float], list[float]] = ([], [])
    differences = []
    for photo in photos:
        one, other = (session.run(["stylized"], {"image": photo, **further})[0] for session in sessions)
        differences.append(float(np.abs(one - other).mean()))
    for _ in range(_ROUNDS):
        for session, milliseconds in zip(sessions, taken, strict=True):
            began = time.perf_counter()
            session.run(["stylized"], {"image": photos[0], **further})
            milliseconds.append((time.perf_counter() - began) * 1e3)
    float_ms, int8_ms = map(statistics.median, taken)
    return Quantised(made, statistics.fmean(differences), int8_ms, float_ms)

"""Style pictures: files, images and arrays as an encoder sees them, and codes that were kept in their place."""

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, Union

import numpy as np

from fst import images
from fst.errors import FstError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

StylePicture = Union[str, Path, np.ndarray[Any, Any], "Image"]
_SMALLEST_PX = 16


def fingerprint(picture: StylePicture) -> str:
    """What tells one picture's content from another's.

    Raises:
        UsageError: no such file, or something that is no picture.
        FstError: the file cannot be read.
    """
    if isinstance(picture, np.ndarray):
        data = repr((picture.shape, picture.dtype.str)).encode() + picture.tobytes()
    elif isinstance(picture, str | Path):
        path = Path(picture).expanduser()
        if not path.is_file():
            raise UsageError(f"{picture}: {'a folder: name pictures in it' if path.is_dir() else 'no such picture'}")
        try:
            data = path.read_bytes()
        except OSError as error:
            raise FstError(f"{picture}: cannot be read ({(error.strerror or str(error)).lower()})") from error
    else:
        from PIL import Image

        if not isinstance(picture, Image.Image):
            raise UsageError(f"a style's picture is a file, a PIL image or a numpy array, not {type(picture).__name__}")
        data = repr((picture.size, picture.mode, picture.getpalette(), sorted(map(str, picture.info.items())))).encode()
        data += picture.tobytes()
    return hashlib.sha256(data).hexdigest()


def is_code(picture: StylePicture) -> TypeGuard[str | Path]:
    """Whether it is the file of a code, by its name."""
    return isinstance(picture, str | Path) and Path(picture).suffix.lower() == ".npy"


def read_code(path: str | Path, length: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The (length,) float32 that np.save wrote. Raises UsageError for anything else."""
    try:
        code = np.load(io.BytesIO(Path(path).expanduser().read_bytes()), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"{path} is no code that np.save wrote") from error
    if code.shape != (length,) or code.dtype.kind != "f" or not np.isfinite(code).all():
        raise UsageError(f"{path} is no code of this model, which is {length} finite numbers")
    kept: np.ndarray[Any, np.dtype[np.float32]] = code.astype(np.float32)
    return kept


def at_size(picture: StylePicture, size_px: int) -> images.Pixels:
    """The picture (H, W, 3) uint8, its longest side made `size_px` long, transparency laid on white.

    Raises:
        UsageError: it has less than 16 pixels a side, or is an array of another shape or type.
        FstError: it cannot be read.
    """
    if isinstance(picture, np.ndarray):
        seen = images.Picture(images.from_array(picture))
    elif isinstance(picture, str | Path):
        seen = images.read(Path(picture).expanduser())
    else:
        seen = images.from_pil(picture)
    if min(seen.size) < _SMALLEST_PX:
        what = str(picture) if isinstance(picture, str | Path) else "the style's picture"
        raise UsageError(f"{what} is {seen.size[0]}x{seen.size[1]} px: too small to take a style from")
    width, height = (max(_SMALLEST_PX, round(size_px / max(seen.size) * length)) for length in seen.size)
    return images.resize(np.asarray(images.on_white(seen)), (width, height))

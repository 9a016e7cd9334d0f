"""Pictures in and out: file <-> uint8 (H, W, 3) sRGB <-> float32 RGB in [0, 1], (1, 3, H, W).

The home of ranges and channel order. Whatever a file holds (a turned phone photo, a wide-gamut or CMYK profile, grey,
16 bits, a palette, transparency), the pixels that leave here are upright 8-bit sRGB. numpy and Pillow only.
"""

import io
import logging
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fst.errors import FstError, UsageError
from fst.files import whole_file

Pixels = NDArray[np.uint8]

# Most pixels, width × height, that a picture may declare: where Pillow, too, refuses a decompression bomb.
MAX_PIXELS = 178_956_970

_WRITABLE = {".bmp": "BMP", ".jpeg": "JPEG", ".jpg": "JPEG", ".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF",
             ".webp": "WEBP"}  # fmt: skip
WRITABLE_SUFFIXES = tuple(_WRITABLE)
READABLE_SUFFIXES = (*WRITABLE_SUFFIXES, ".avif", ".gif", ".jfif", ".pgm", ".ppm")
# By content. Not all that Pillow opens: for EPS it would start another program.
_READABLE = {"AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP"}

_BAND = 16  # rows that are converted at a time: what lies between stays in the processor's cache

# What Pillow raises on cut and corrupted files (found by corrupting some of each format, and in its issues).
_DAMAGE = (OSError, ValueError, SyntaxError, RuntimeError, EOFError, LookupError, ArithmeticError, TypeError,
           struct.error)  # fmt: skip

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else logging prints Pillow's remarks as a last resort


class ImageError(FstError):
    """A picture cannot be read, converted or written."""


class _UnfitError(Exception):
    """What is wrong with a picture and what to do; `_reading` adds its name."""


@dataclass(frozen=True)
class Picture:
    """A picture as it is looked at."""

    pixels: Pixels  # (H, W, 3) uint8, sRGB, upright
    alpha: Pixels | None = None  # (H, W) uint8, 255 opaque; None where every pixel is opaque
    icc_profile: bytes | None = None  # the sRGB profile to embed on saving where the source carried one, else None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.pixels.shape[1], self.pixels.shape[0]


def read(source: str | Path | BinaryIO, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a picture file (the first frame of an animation).

    Raises ImageError: no such file, no permission, not a picture, damaged, of a kind that is not read, or of more than
    `max_pixels` pixels, which is found out before anything is decoded.
    """
    with _opened(source, max_pixels) as image:
        return _decode(image)


def read_rgb(path: str | Path | BinaryIO, *, at_least: int | None = None) -> Image.Image:
    """Read a picture file as an upright sRGB Pillow image of mode RGB, transparency laid on white.

    `at_least`: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, several times faster, as long as its short side
    stays at least so many pixels (a picture that is smaller comes as it is). Raises ImageError as `read` does.
    """
    with _opened(path, MAX_PIXELS) as image:
        if at_least is not None:
            image.draft(None, (at_least, at_least))
        return on_white(_decode(image))


def from_pil(image: Image.Image) -> Picture:
    """Take over a Pillow image, which stays as it is; orientation, colours and mode are handled as in a file."""
    with _reading("the picture"):
        return _decode(image)


def from_array(array: NDArray[Any]) -> Pixels:
    """(H, W, 3) uint8, or floats in [0, 1] -> (H, W, 3) uint8. Raises UsageError for another shape or type."""
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise UsageError(f"a picture as an array is (height, width, 3), not {array.shape}")
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise UsageError(f"a picture as an array is uint8, or floats in [0, 1], not {array.dtype}")
    return to_uint8(array.transpose(2, 0, 1))


def find_pictures(folder: Path) -> list[Path]:
    """List the pictures under `folder` by suffix, sorted, without hidden ones; ImageError where it cannot be listed."""

    def refuse(error: OSError) -> None:
        raise ImageError(f"{error.filename}: cannot be listed ({_reason(error)}); give a folder") from error

    found = []
    for here, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(here, name) for name in names if not name.startswith(".")]
    return sorted(path for path in found if path.suffix.lower() in READABLE_SUFFIXES)


def with_pixels(picture: Picture, pixels: Pixels) -> Picture:
    """The picture with other pixels, of any size; its transparency, made as large, and its profile go along."""
    alpha, size = picture.alpha, (pixels.shape[1], pixels.shape[0])
    if alpha is not None and size != picture.size:
        alpha = resize(alpha, size)
    return Picture(pixels, alpha, picture.icc_profile)


def pictures_below(folder: Path, *, out: Path | None = None) -> list[Path]:
    """As `find_pictures`, without those below `out`, which an earlier run wrote; UsageError where there are none."""
    found = find_pictures(folder)
    if out is not None and folder.resolve() in out.resolve().parents:
        found = [file for file in found if not file.resolve().is_relative_to(out.resolve())]
    if not found:
        raise UsageError(f"{folder}: no pictures in it or in the folders under it")
    return found


def to_pil(picture: Picture) -> Image.Image:
    """Return the picture as a PIL image: RGB, or RGBA where it has alpha, with its profile in `info`."""
    alpha = () if picture.alpha is None else (picture.alpha,)
    image = Image.fromarray(np.dstack((picture.pixels, *alpha)) if alpha else picture.pixels)
    if picture.icc_profile is not None:
        image.info["icc_profile"] = picture.icc_profile
    return image


def write(path: str | Path, picture: Picture | Pixels, *, quality: int = 95) -> None:
    """Write a picture, whole or not at all; see `encode`. Raises ImageError, also where the disk refuses."""
    data = encode(picture, path, quality=quality)
    try:
        with whole_file(Path(path)) as part:
            part.write_bytes(data)
    except FstError as error:
        raise ImageError(str(error)) from error


def encode(picture: Picture | Pixels, name: str | Path, *, quality: int = 95) -> bytes:
    """Return the bytes of a picture file, in the format that the suffix of `name` says.

    picture: a Picture, or (H, W, 3) uint8 sRGB. Alpha is kept in PNG, WebP and TIFF and laid on white in JPEG and BMP;
    the profile is embedded where there is one. quality: 1 to 100, for JPEG and WebP.

    Raises ImageError where the suffix names no format that can be written or the format cannot hold the picture,
    ValueError for a wrong `quality` and for an array of another shape or type.
    """
    kind = writable_format(name)
    if not 1 <= quality <= 100:
        raise ValueError(f"quality goes from 1 to 100, got {quality}")
    picture = picture if isinstance(picture, Picture) else Picture(picture)
    _check_pixels(picture.pixels)
    image = on_white(picture) if kind in ("JPEG", "BMP") else to_pil(picture)
    options: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": quality, "subsampling": 0 if quality >= 90 else 2},  # 4:4:4 for brush strokes, else 4:2:0
        "WEBP": {"quality": quality},
        "PNG": {"compress_level": 2},  # a fifth of the time of 6, files a tenth larger
        "TIFF": {"compression": "tiff_adobe_deflate"},
    }
    profile = {} if picture.icc_profile is None else {"icc_profile": picture.icc_profile}
    data = io.BytesIO()
    try:
        image.save(data, kind, **options.get(kind, {}), **profile)
    except (*_DAMAGE, MemoryError) as error:
        size = f"{image.width} x {image.height}"
        raise ImageError(f"{name}: cannot hold {size} pixels as {kind} ({_reason(error)}); write a PNG") from error
    return data.getvalue()


def writable_format(name: str | Path) -> str:
    """Return Pillow's name of the format that the suffix of `name` says, else ImageError: to ask before long work."""
    suffix = Path(name).suffix
    if suffix.lower() not in _WRITABLE:
        what = f"{suffix} pictures are not written" if suffix else "has no suffix to say what to write"
        raise ImageError(f"{name}: {what}; end the name with one of {' '.join(WRITABLE_SUFFIXES)}")
    return _WRITABLE[suffix.lower()]


def to_float(pixels: Pixels) -> NDArray[np.float32]:
    """(H, W, 3) uint8 -> (1, 3, H, W) float32 in [0, 1], C-contiguous: each value is the float32 nearest to v / 255."""
    _check_pixels(pixels)
    array = np.empty((1, 3, *pixels.shape[:2]), np.float32)
    np.divide(pixels.transpose(2, 0, 1), np.float32(255), out=array[0])
    return array


def to_uint8(array: NDArray[np.floating[Any]]) -> Pixels:
    """(1, 3, H, W) or (3, H, W) float in [0, 1] -> (H, W, 3) uint8, clipped, rounded to nearest; NaN becomes 0."""
    planes = array[0] if array.ndim == 4 and len(array) == 1 else array
    if planes.ndim != 3 or len(planes) != 3 or planes.dtype.kind != "f":
        raise ValueError(f"expected (1, 3, H, W) or (3, H, W) floats, got {array.shape} {array.dtype}")
    rows = planes.transpose(1, 2, 0)  # (H, W, 3)
    pixels = np.empty(rows.shape, np.uint8)
    with np.errstate(invalid="ignore"):
        for band in (slice(top, top + _BAND) for top in range(0, len(rows), _BAND)):
            scaled = np.multiply(rows[band], 255, dtype=np.float32, order="C")
            scaled += np.float32(0.5)
            pixels[band] = np.clip(scaled, 0, 255, out=scaled)
    return pixels


def resize(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Resample (H, W, 3) or (H, W) uint8 to `size` = (width, height) with an antialiased Lanczos filter."""
    if pixels.shape[1::-1] == tuple(size):
        return pixels
    return np.array(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))


def fit_within(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    """Shrink `size` = (width, height) to a long side of at most `max_side` pixels; never enlarge, never reach 0."""
    if max_side < 1:
        raise ValueError(f"max_side must be at least 1 pixel, got {max_side}")
    longest = max(size)
    if longest <= max_side:
        return size
    width, height = (max(1, (2 * side * max_side + longest) // (2 * longest)) for side in size)  # to nearest
    return width, height


def keep_colors(stylized: Pixels, photo: Pixels) -> Pixels:
    """Return the luma of `stylized` with the chroma of `photo`; all (H, W, 3) uint8 of one size, else ValueError.

    Luminance-only transfer, Gatys et al. 2016, "Preserving color in neural artistic style transfer", section 4.
    Adding one number to R, G and B moves luma (0.299 R + 0.587 G + 0.114 B, as in YIQ) and leaves chroma alone: no
    colour space is needed. Departure: the style's luma is not first matched to the photo's.
    """
    if stylized.shape != photo.shape:
        raise ValueError(f"stylized {stylized.shape} and photo {photo.shape} differ in size")
    new, old = (np.asarray(Image.fromarray(each).convert("L")) for each in (stylized, photo))
    pixels = np.empty_like(photo)
    for band in (slice(top, top + _BAND) for top in range(0, len(photo), _BAND)):
        moved = photo[band] + (new[band].astype(np.int16) - old[band])[..., None]
        pixels[band] = np.clip(moved, 0, 255, out=moved)
    return pixels


def _check_pixels(pixels: Pixels) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"expected (H, W, 3) uint8 pixels, got {pixels.shape} {pixels.dtype}")


def _reason(error: BaseException) -> str:
    """Say in a few words, on one line, what an exception of Pillow or the file system says."""
    text = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


@contextmanager
def _opened(source: str | Path | BinaryIO, max_pixels: int) -> Iterator[Image.Image]:
    """Open a picture without decoding it; every failure, of the block too, leaves as an ImageError."""
    with _reading(str(source) if isinstance(source, str | Path) else "the picture"), Image.open(source) as image:
        if image.format not in _READABLE:
            raise _UnfitError(f"{image.format} files are not read; convert it to PNG or JPEG")
        if image.width * image.height > max_pixels:
            raise _UnfitError(f"has {image.width} x {image.height} pixels, {max_pixels:,} are allowed; make it smaller")
        yield image


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Turn what Pillow and the file system raise into one line about the picture `name`; silence their warnings."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    except (_UnfitError, Image.DecompressionBombError, MemoryError, *_DAMAGE) as error:
        raise ImageError(f"{name}: {_whats_wrong(name, error)}") from error


def _whats_wrong(name: str, error: BaseException) -> str:
    match error:
        case _UnfitError():
            return str(error)
        case Image.DecompressionBombError():
            return "declares more pixels than can be read; make it smaller"
        case MemoryError():
            return "needs more memory than there is; make it smaller"
        case FileNotFoundError():
            return "no such file"
        case UnidentifiedImageError():
            empty = os.path.isfile(name) and os.path.getsize(name) == 0
            what = "is empty" if empty else "is HEIC" if name.lower().endswith((".heic", ".heif")) else "is no picture"
            return f"{what}; give a JPEG, PNG, WebP, TIFF, BMP, GIF or AVIF file"
        case OSError() if os.path.isdir(name):
            return "is a folder; give a picture file"
        case OSError() if error.strerror:
            return f"cannot be read ({_reason(error)}); check the file and its permissions"
    return f"is damaged or cut off ({_reason(error)}); get a fresh copy"


def on_white(picture: Picture) -> Image.Image:
    """The picture as a PIL image of mode RGB, transparency laid on white."""
    rgb = Image.fromarray(picture.pixels)
    if picture.alpha is None:
        return rgb
    return Image.composite(rgb, Image.new("RGB", rgb.size, "white"), Image.fromarray(picture.alpha))


# EXIF orientation -> how to turn the picture upright.
_TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
          5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
          8: Image.Transpose.ROTATE_90}  # fmt: skip


def _decode(image: Image.Image) -> Picture:
    image.load()
    try:
        turn = _TURNS.get(image.getexif().get(0x0112, 1))
    except _DAMAGE:  # a broken EXIF block does not spoil a picture
        turn = None
    base, alpha = _split(image)
    if alpha is not None and alpha.getextrema() == (255, 255):
        alpha = None
    rgb, profile = _to_srgb(base, image.info.get("icc_profile"))
    if turn is not None:
        rgb, alpha = rgb.transpose(turn), alpha and alpha.transpose(turn)
    return Picture(np.array(rgb), None if alpha is None else np.array(alpha), profile)


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Split any mode into (8-bit L, RGB or CMYK; alpha as L or None)."""
    if image.mode == "F":
        raise _UnfitError("holds floating-point values of unknown range; save it with 8 or 16 bits")
    clear = image.info.get("transparency")
    if image.mode.startswith("I"):  # 16-bit grey, 65535 -> 255, to nearest; or the 12 bits of some TIFFs
        values, tags = np.asarray(image), getattr(image, "tag_v2", {})
        top = 4095 if tags.get(258) == (12,) else 65535
        if values.min() < 0 or values.max() > top:
            raise _UnfitError(f"has grey levels {values.min()} to {values.max()}; save it with 8 or 16 bits")
        grey = ((values.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8)
        if tags.get(262) == 0:  # "white is zero", which Pillow undoes for 8 bits only
            grey = 255 - grey
        alpha = None if clear is None else Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8))
        return Image.fromarray(grey), alpha
    mode = {"1": "L", "L": "L", "LA": "L", "La": "L", "CMYK": "CMYK"}.get(image.mode, "RGB")
    if mode == "CMYK" or not image.has_transparency_data:
        return image.convert(mode), None
    image = image.convert("LA" if mode == "L" else "RGBA")
    return image.convert(mode), image.getchannel("A")


# How the common sRGB profiles spell their red primary (Y, Z) and curve (formula; start of HP's table): both tell sRGB
# from all else without loading ImageCms. One spelt otherwise costs that import and comes to the same colours.
_SRGB_RED = bytes.fromhex("000038f5 00000390")
_SRGB_CURVES = (bytes.fromhex("00026666 0000f2a7 00000d59 000013d0 00000a5b"),
                bytes.fromhex("00000400 0000 0005 000a 000f 0014 0019 001e 0023"))  # fmt: skip


def _to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bytes | None]:
    """L, RGB or CMYK in the colours of `profile` -> (RGB, sRGB profile); a broken or unfit one is ignored."""
    mode = {b"GRAY": "L", b"RGB ": "RGB", b"CMYK": "CMYK"}.get(profile[16:20]) if profile else None
    if not profile or not mode or (image.mode != mode and (image.mode, mode) != ("L", "RGB")):
        return image.convert("RGB"), None
    if _SRGB_RED in profile and any(curve in profile for curve in _SRGB_CURVES):
        return image.convert("RGB"), profile
    from PIL import ImageCms  # here, because most pictures do without

    try:
        given, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        intent = ImageCms.Intent.PERCEPTUAL
        converted = ImageCms.profileToProfile(image.convert(mode), given, srgb, intent, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image.convert("RGB"), None
    assert converted is not None  # it is None only in place
    data = ImageCms.ImageCmsProfile(srgb).tobytes()
    made = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)  # not now: the same picture makes the same file
    return converted, data[:24] + made + data[36:]

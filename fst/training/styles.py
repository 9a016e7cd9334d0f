"""A style: a picture with its title, artist, year and licence, found and opened at the sizes it is learnt at."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from fst import images
from fst.download import DownloadError, DownloadProgress, check_hash, download
from fst.errors import FstError, UsageError, nearest
from fst.paths import cache_folder, carried

if TYPE_CHECKING:
    from torch import Tensor

STYLES_VARIABLE = "FST_STYLES"
_MAX_DOWNLOAD_BYTES = 50_000_000
_THIS_MACHINE = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Style:
    """What `conf/style/NAME.yaml` says of a style.

    Args:
        image: the picture: a path, an https address, or the name of a file in conf/style/ or in the folder FST_STYLES.
        name: how the style is called and its files are named; the picture's file name when None.
        title, artist, year, license: of the work; they go into the model file.
        sha256: of the picture's file; None takes any.
        size_px: longest side at which the style is learnt, in pixels; several are averaged. Larger: larger strokes.
        crop: the part to learn, (left, top, right, bottom) in fractions of width and height.

    Raises:
        UsageError: no picture named, or a size or crop that cannot be.
    """

    image: str | None = None
    name: str | None = None
    title: str | None = None
    artist: str | None = None
    year: int | str | None = None
    license: str | None = None
    sha256: str | None = None
    size_px: int | Sequence[int] = 512
    crop: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if not self.image:
            raise UsageError("no style picture: choose style=NAME (fst train --help lists them) or style.image=FILE")
        if self.crop is not None and not _is_crop(self.crop):
            raise UsageError(f"style.crop is [left, top, right, bottom] in fractions from 0 to 1, not {self.crop}")
        sizes = self.size_px if isinstance(self.size_px, list | tuple) else [self.size_px]
        if not sizes or not all(isinstance(size, int) and size >= 32 for size in sizes):
            raise UsageError(f"style.size_px must be at least 32 pixels (or several: [256,512]), not {self.size_px}")
        for text in ("image", "name", "sha256"):  # a file or style called 1889 reaches us as a number
            value = getattr(self, text)
            object.__setattr__(self, text, None if value is None else str(value))

    @property
    def label(self) -> str:
        """The name, in letters that a file name may have."""
        return style_name(self.name, self.image)

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.size_px,) if isinstance(self.size_px, int) else tuple(self.size_px)

    def find(self, on_progress: Callable[[DownloadProgress], None] | None = None) -> Path:
        """The picture's file, fetched first when `image` is an address.

        Raises:
            UsageError: it is not there (the message says where it was looked for), or is not the file of `sha256`.
            DownloadError: it cannot be fetched.
        """
        assert self.image
        remote = "://" in self.image
        path = _fetch(self.image, self.sha256, on_progress) if remote else _look_up(self.image, self.label)
        if self.sha256:
            try:
                check_hash(path, sha256=self.sha256)
            except DownloadError as error:
                raise UsageError(
                    f"{path} is not the picture of style {self.label!r}: its SHA-256 does not begin with {self.sha256};"
                    " get the right file, or take this one with style.sha256=null"
                ) from error
        return path

    @cached_property
    def file_sha256(self) -> str:
        """SHA-256 of the picture's file, as it was when `pictures` read it."""
        return hashlib.sha256(self.find().read_bytes()).hexdigest()

    def pictures(
        self, on_progress: Callable[[DownloadProgress], None] | None = None, *, stroke: float = 1.0
    ) -> "list[Tensor]":
        """The picture at each of its sizes, each (1, 3, h, w) float32 RGB in [0, 1], transparency laid on white.

        `stroke` multiplies the sizes.

        Raises:
            FstError: it cannot be found or read, or is too small.
        """
        import torch

        whole, scaled = self.cropped(on_progress), []
        for size in self.sizes:
            factor = stroke * size / max(whole.size)
            target = (max(16, round(whole.width * factor)), max(16, round(whole.height * factor)))
            resized = whole.resize(target, Image.Resampling.LANCZOS, reducing_gap=3.0)
            scaled.append(torch.from_numpy(images.to_float(np.asarray(resized))))
        return scaled

    def cropped(self, on_progress: Callable[[DownloadProgress], None] | None = None) -> Image.Image:
        """The part of the picture to learn, as large as it is, transparency laid on white.

        Raises:
            FstError: it cannot be found or read, or is too small.
        """
        whole = images.read_rgb(self.find(on_progress))
        _ = self.file_sha256  # taken now: the file may be gone when the run ends
        if self.crop is not None:
            left, top, right, bottom = self.crop
            width, height = whole.size
            box = (round(left * width), round(top * height), round(right * width), round(bottom * height))
            whole = whole.crop(box)
        if min(whole.size) < 16:
            part = "" if self.crop is None else f" of {list(self.crop)}"
            raise UsageError(f"{self.image}{part} is {whole.width}x{whole.height} px: too small to learn a style from")
        return whole

    def recipe(self) -> dict[str, Any]:
        """What the model file says of the style."""
        return {
            "name": self.label,
            "title": self.title,
            "artist": self.artist,
            "year": self.year,
            "license": self.license,
            "size_px": list(self.sizes),
            "crop": None if self.crop is None else list(self.crop),
            "sha256": self.file_sha256,
        }


def named_style(which: str | dict[str, Any], *, size_px: int | Sequence[int]) -> Style:
    """A style by its name in conf/style/, by its picture's path or address, or by the keys of a Style.

    Args:
        which: among keys, `style` takes the others from conf/style/: {style: wave, size_px: 768}.
        size_px: where the keys name no other.

    Raises:
        UsageError: no such style, or a key that a style does not have.
        FstError: the training half is not installed, and a name needs it.
    """
    own = dict(which) if isinstance(which, dict) else {}
    name = own.pop("style", None) if own else str(which)
    folder = carried("conf") / "style"
    keys: dict[str, Any] = {}
    if name is not None and (file := folder / f"{name}.yaml").is_file():
        keys = _keys(file)
    elif name is not None and (Path(str(name)).suffix or Path(str(name)).expanduser().is_file()):
        keys = {"image": name}
    elif name is not None:
        known = {file.stem for file in folder.glob("*.yaml")} - {"custom"}
        raise UsageError(f"no style is called {name!r}: {nearest(str(name), known)}, or name a picture's file")
    try:
        return Style(**keys | {"size_px": size_px} | own)
    except TypeError as error:
        raise UsageError(f"styles: {error}") from error


def _keys(file: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise FstError(f"{file}: PyYAML reads it: pip install '.[train]' in fst's checkout") from error
    keys: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return keys


def style_name(name: str | None, image: str | None) -> str:
    """The style's name, or its picture's file name without the suffix; safe as the name of a file."""
    text = str(name or Path(str(image or "style").split("?")[0]).stem)
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text).strip("._")[:100] or "style"


def _is_crop(crop: Any) -> bool:
    if not (isinstance(crop, list | tuple) and len(crop) == 4 and all(isinstance(v, int | float) for v in crop)):
        return False
    left, top, right, bottom = crop
    return bool(0 <= left < right <= 1 and 0 <= top < bottom <= 1)


def _look_up(image: str, name: str) -> Path:
    given = Path(image).expanduser()
    if given.is_file():
        return given
    if (own := carried("conf") / "style" / image).is_file():
        return own
    folder = os.path.expanduser(os.environ.get(STYLES_VARIABLE, ""))
    if folder and given.name == image:
        for candidate in [Path(folder) / image, *(Path(folder) / f"{name}{s}" for s in images.READABLE_SUFFIXES)]:
            if candidate.is_file():
                return candidate
    if given.is_dir():
        raise UsageError(f"style.image={image}: a folder; name a picture file in it")
    if given.name != image:
        raise UsageError(f"style.image={image}: no such file")
    where = f"{folder} ({STYLES_VARIABLE})" if folder else f"a folder and set {STYLES_VARIABLE} to it"
    raise UsageError(f"the picture {image} is not here: put it into {where}, or give its path as style.image=FILE")


def _fetch(url: str, sha256: str | None, on_progress: Callable[[DownloadProgress], None] | None) -> Path:
    try:
        address = urlsplit(url)
        allowed = address.scheme == "https" or (address.scheme == "http" and address.hostname in _THIS_MACHINE)
    except ValueError:
        allowed = False
    if not allowed:
        raise UsageError(f"style.image={url}: give an https address or a file")
    suffix = Path(url.split("?")[0]).suffix.lower()
    suffix = suffix if suffix in images.READABLE_SUFFIXES else ".picture"
    target = cache_folder() / "styles" / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}{suffix}"
    if sha256 or not target.is_file():  # with a hash, a file that has it is kept
        download(url, target, sha256=sha256, max_bytes=_MAX_DOWNLOAD_BYTES, on_progress=on_progress)
    try:
        images.read(target)
    except FstError:
        target.unlink(missing_ok=True)
        raise UsageError(f"{url} is not a picture that can be read") from None
    return target

"""From a picture to a training crop: what is read, where it is cut, and what is too small."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fst import images
from fst.errors import UsageError

MIN_SIDE_PX = 32


class Sample(NamedTuple):
    """A crop (3, size, size) uint8, and what had to be skipped to get it, a line each.

    `failure` says why there is no crop: an error raised in a worker process would arrive as a traceback.
    """

    pixels: Tensor
    skipped: list[str]
    failure: str = ""


def crop_photo(photo: Image.Image, size: int, fraction: float, at: tuple[float, float], flip: bool) -> Tensor:
    """Cut a square and scale it: (3, size, size) uint8.

    The square's side is `fraction` of the photo's short side; `at`, in [0, 1], places it in what is left over.
    """
    side = fraction * min(photo.size)
    left, top = (a * (length - side) for a, length in zip(at, photo.size, strict=True))
    box = (left, top, left + side, top + side)
    cropped = photo.resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
    if flip:
        cropped = cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return torch.from_numpy(np.asarray(cropped).transpose(2, 0, 1).copy())


class Crops:
    """The random crop that belongs to a position of the stream.

    With a `start_size` below `size`, crops begin at that side and grow in steps of 32 pixels, in equal shares of the
    stream up to `grown_at`: small pictures teach the same for a fraction of the time (Karras et al. 2018, section 2,
    grow the network, too; ours takes any size).
    """

    grown_at, step_positions = 0, 1  # set by grow_until

    def __init__(self, size: int, seed: int, scale: Sequence[float], flip: bool, start_size: int | None = None) -> None:
        check_whole("size", size, 32)
        if start_size is not None:
            check_whole("start_size", start_size, 32)
            if start_size > size:
                raise UsageError(f"data.start_size={start_size} is above data.size={size}")
        check_whole("seed", seed, 0)
        numbers = isinstance(scale, list | tuple) and all(isinstance(side, int | float) for side in scale)
        if not (numbers and len(scale) == 2 and 0 < scale[0] <= scale[1] <= 1):
            raise UsageError(f"data.crop_scale is [smallest, largest] in (0, 1], not {scale}")
        self.size: int = size
        self.seed, self.scale, self.flip = seed, tuple(scale), flip
        self.sizes = sides(start_size, size)

    def grow_until(self, step: int, per_step: int) -> None:
        """Reach the full size at this step, with so many positions of the stream in each; no batch has two sizes."""
        self.step_positions = per_step
        self.grown_at = step * per_step

    def size_at(self, position: int) -> int:
        """Side of the crop at this position of the stream, in pixels."""
        if position >= self.grown_at:
            return self.size
        first = position - position % self.step_positions  # of the step
        return self.sizes[first * (len(self.sizes) - 1) // self.grown_at]

    def cut(self, source: "Path | HubRow", position: int) -> Tensor:
        """The crop of `source` (see `open_photo`) at this position of the stream: (3, size, size) uint8."""
        fraction, place, flip = self.draw(position)
        size = self.size_at(position)
        return crop_photo(open_photo(source, int(np.ceil(size / fraction))), size, fraction, place, flip)

    def draw(self, position: int) -> tuple[float, tuple[float, float], bool]:
        """Fraction of the short side, place, and whether to mirror."""
        random = np.random.default_rng((self.seed, position))
        fraction, x, y, mirror = random.random(4)
        low, high = self.scale
        return low + (high - low) * fraction, (x, y), bool(self.flip and mirror < 0.5)


def sides(start_size: int | None, size: int) -> list[int]:
    """The sides of crops that grow from `start_size` to `size`, or are alike where it is None."""
    return [*range(start_size or size, size, 32), size]


class HubRow(NamedTuple):
    """A row of a dataset, and its picture as `datasets` gives it undecoded: {"bytes": ..., "path": ...}, or None."""

    number: int
    picture: Any

    def __str__(self) -> str:
        return f"row {self.number}"

    def open(self) -> io.BytesIO:
        """The picture's file, from wherever it lies; ImageError where there is none."""
        picture = self.picture or {}
        if picture.get("bytes"):
            return io.BytesIO(picture["bytes"])
        if not picture.get("path"):
            raise images.ImageError("holds no picture")
        from datasets.utils.file_utils import xopen

        try:
            with xopen(picture["path"], "rb") as file:
                return io.BytesIO(file.read())
        except Exception as error:  # each kind of address has errors of its own
            raise images.ImageError(f"{picture['path']} cannot be fetched ({type(error).__name__})") from error


def open_photo(source: Path | HubRow, at_least: int) -> Image.Image:
    """Read a photo, perhaps scaled down, but its short side to no less than `at_least`.

    Raises:
        ImageError: it cannot be read, or is too small to learn from.
    """
    try:
        file = source.open() if isinstance(source, HubRow) else source
        photo = images.read_rgb(file, at_least=at_least)
    except images.ImageError as error:
        if isinstance(source, Path):
            raise
        raise images.ImageError(f"{source}: {str(error).removeprefix('the picture: ')}") from error
    if min(photo.size) < MIN_SIDE_PX:
        raise images.ImageError(f"{source}: {photo.width}x{photo.height} px, too small to learn from")
    return photo


def check_whole(key: str, value: Any, least: int) -> None:
    """Raise UsageError unless the setting `key` is a whole number of at least `least`."""
    if not isinstance(value, int) or value < least:
        raise UsageError(f"data.{key} must be a whole number of at least {least}, not {value!r}")

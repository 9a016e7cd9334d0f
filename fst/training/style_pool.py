"""Many style pictures, for networks that learn to paint with any: cut, turned and recoloured anew every time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from fst import images
from fst.errors import UsageError
from fst.training.styles import named_style

_SIDE_PX = 640  # pictures are kept at this length of their short side at most
_MOST = 512  # pictures kept of one place: half a gigabyte
_LEAST_SHARE = 0.3  # of the short side, for a crop


class StylePool:
    """Style pictures in memory.

    Args:
        places: names of styles, pictures' files, folders of pictures, or {style: wave, crop: ...}. Each place is drawn
            as often as every other, whatever the number of its pictures; of a large folder, some hundred are kept.
        on_progress: told how downloads of style pictures go.

    Raises:
        UsageError: no place; a style, file or folder that is not there, or a folder without pictures.
        FstError: a picture that was named cannot be read; in folders, those are passed over.
    """

    def __init__(self, places: Sequence[str | dict[str, Any]], on_progress: Any = None) -> None:
        self.pictures: list[list[Tensor]] = []  # by place, each (3, h, w) uint8
        self.names: list[str] = []  # of the places
        for place in places:
            folder = Path(str(place)).expanduser()
            if not isinstance(place, dict) and folder.is_dir():
                self.names.append(folder.name)
                self.pictures.append(_read_folder(folder))
            elif isinstance(place, str) and set(place) & set("/\\") and "://" not in place and not folder.exists():
                raise UsageError(f"styles={place}: no such folder or picture")
            else:
                style = named_style(place, size_px=_SIDE_PX)
                self.names.append(style.label)
                self.pictures.append([_bytes(_short_side(picture)) for picture in style.pictures(on_progress)])
        if not self.pictures:
            raise UsageError("method=adain learns from styles=[FOLDER,wave,...]: folders, pictures or styles")

    def __len__(self) -> int:
        return sum(map(len, self.pictures))

    def draw(self, count: int, size: int) -> Tensor:
        """So many random crops: (count, 3, size, size) float32 RGB in [0, 1], on the processor.

        A crop is from 0.3 to all of the picture's short side, mirrored and turned at random; half of them have their
        colours swapped, inverted or bent: what few pictures there are becomes many styles.
        """
        return torch.stack([self._crop(size) for _ in range(count)])

    def _crop(self, size: int) -> Tensor:
        place = self.pictures[_below(len(self.pictures))]
        picture = place[_below(len(place))]
        share, down, right = torch.rand(3).tolist()
        side = round(min(picture.shape[1:]) * (_LEAST_SHARE + (1 - _LEAST_SHARE) * share))
        top, left = round(down * (picture.shape[1] - side)), round(right * (picture.shape[2] - side))
        crop = _square(picture, top, left, side, size)[0]
        crop = torch.rot90(crop, _below(4), (1, 2))
        if _below(2):
            crop = crop.flip(2)
        return recolored(crop) if _below(2) else crop

    def whole(self, number: int, size: int) -> Tensor:
        """The first picture of a place, as it is, its middle cut out: (1, 3, size, size) float32 RGB in [0, 1]."""
        picture = self.pictures[number][0]
        side = min(picture.shape[1:])
        top, left = ((length - side) // 2 for length in picture.shape[1:])
        return _square(picture, top, left, side, size)


def recolored(picture: Tensor) -> Tensor:
    """A picture (3, H, W) in [0, 1] with other colours: channels swapped, some inverted, each on a random curve."""
    picture = picture[torch.randperm(3)]
    picture = torch.where(torch.rand(3, 1, 1) < 0.3, 1 - picture, picture)
    return picture.clamp(0, 1) ** (4 ** (torch.rand(3, 1, 1) - 0.5))


def _below(most: int) -> int:
    return int(torch.randint(most, ()))


def _read_folder(folder: Path) -> list[Tensor]:
    files = images.find_pictures(folder)
    if len(files) > _MOST:
        files = files[:: -(-len(files) // _MOST)]
    found = []
    for file in files:
        try:
            picture = images.read_rgb(file, at_least=_SIDE_PX)
        except images.ImageError:
            continue
        if min(picture.size) >= 32:
            found.append(_bytes(_short_side(torch.from_numpy(images.to_float(np.asarray(picture))))))
    if not found:
        unfit = f"none of its {len(files)} pictures can be read and has 32 pixels a side"
        raise UsageError(f"styles={folder}: {unfit if files else 'no pictures in it or in the folders under it'}")
    return found


def _short_side(picture: Tensor) -> Tensor:
    """(1, 3, h, w), scaled down where its short side is longer than `_SIDE_PX`."""
    factor = _SIDE_PX / min(picture.shape[2:])
    if factor >= 1:
        return picture
    size = [round(factor * length) for length in picture.shape[2:]]
    return interpolate(picture, size, mode="bilinear", antialias=True)


def _bytes(picture: Tensor) -> Tensor:
    return torch.from_numpy(images.to_uint8(picture.numpy())).permute(2, 0, 1)


def _square(picture: Tensor, top: int, left: int, side: int, size: int) -> Tensor:
    """A part of (3, h, w) uint8 at another size: (1, 3, size, size) float32 in [0, 1]."""
    part = picture[:, top : top + side, left : left + side].permute(1, 2, 0)
    return interpolate(torch.from_numpy(images.to_float(part.numpy())), (size, size), mode="bilinear", antialias=True)

"""Several styles in one picture, each where its mask is white (Gatys et al. 2017, section 4, on pixels)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fst import images
from fst.errors import UsageError
from fst.inference.stylizer import Floats, Plan, Stylizer
from fst.inputs import Value


def read_mask(path: str | Path) -> images.Pixels:
    """The lightness of a picture, (H, W) uint8; what is transparent is black. Raises ImageError as `images.read`."""
    picture = images.read(path)
    grey = np.asarray(Image.fromarray(picture.pixels).convert("L"))
    if picture.alpha is None:
        return grey
    return (grey.astype(np.uint16) * picture.alpha // 255).astype(np.uint8)


def shares(masks: Sequence[images.Pixels], size: tuple[int, int]) -> Floats:
    """Masks (h, w) uint8 -> (N, height, width) in [0, 1], for `size` = (width, height).

    Where they overlap to more than 1, all are made less alike; where they come to less, the rest is nobody's.
    """
    # No Lanczos: it rings, and the ringing of a mask is a halo.
    fitted = (Image.fromarray(mask).resize(size, Image.Resampling.BILINEAR) for mask in masks)
    each = np.stack([np.asarray(mask, np.float32) / 255 for mask in fitted])
    made: Floats = each / np.maximum(1, each.sum(0))
    return made


class Regions:
    """A Stylizer for whole pictures, whose styles have regions: every style is painted, and shown by its mask.

    Args:
        stylizer: of a model that takes its style from a picture.
        styles: the wish `style_image` of each region.
        masks: one (h, w) uint8 a style, which leave the photo as it is where none is white; or one fewer: the last
            style has what is left by the others. They are resized to the photo.

    Raises:
        UsageError: another number of masks, or a style that cannot be.
        FstError: see `Stylizer.inputs`.
    """

    def __init__(self, stylizer: Stylizer, styles: Sequence[Any], masks: Sequence[images.Pixels]) -> None:
        if not masks or len(styles) - len(masks) not in (0, 1):
            raise UsageError(
                f"{len(masks)} masks go with {len(masks)} style pictures, or with one more for the rest of the photo, "
                f"and not with {len(styles)}"
            )
        self._stylizer, self._masks = stylizer, masks
        self._codes = [stylizer.inputs(style_image=style)["style_code"] for style in styles]
        self.recipe, self.path = stylizer.recipe, stylizer.path

    def inputs(self, **wishes: Any) -> dict[str, Value]:
        """As `Stylizer.inputs`, with the style of the first region."""
        return self._stylizer.inputs(**wishes | {"style_code": self._codes[0]})

    def plan(self, size: tuple[int, int]) -> Plan:
        """As `Stylizer.plan`; the note tells of masks that are resized."""
        plan = self._stylizer.plan(size)
        sizes = dict.fromkeys(mask.shape[::-1] for mask in self._masks)
        others = [f"{width}x{height}" for width, height in sizes if (width, height) != size]
        if not others:
            return plan
        resized = f"masks of {' and '.join(others)} are resized to {plan.size[0]}x{plan.size[1]}"
        return plan._replace(note=f"{plan.note}; {resized}" if plan.note else resized)

    def restyle(self, picture: images.Picture, plan: Plan | None = None, **wishes: Any) -> images.Picture:
        """As `Stylizer.restyle`."""
        plan = plan or self._stylizer.plan(picture.size)  # one for all styles: the memory that is free comes and goes
        size = plan.size
        parts = shares(self._masks, size)
        rest = np.clip(1 - parts.sum(0), 0, 1)
        if len(self._codes) > len(parts):
            parts, photo = np.concatenate([parts, rest[None]]), None
        else:
            photo = images.resize(picture.pixels, size)
        blended = np.zeros((size[1], size[0], 3), np.float32)
        for code, part in zip(self._codes, parts, strict=True):
            if part.any():
                blended += part[..., None] * self._stylizer.repaint(
                    picture.pixels, plan, **wishes | {"style_code": code}
                )
        if photo is not None:
            blended += rest[..., None] * photo
        return images.with_pixels(picture, (blended + 0.5).clip(0, 255).astype(np.uint8))

"""Bars, drawn with Pillow: what a benchmark found, at a glance."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fst import images

_WIDTH, _ROW, _LABEL, _VALUE = 900, 26, 240, 130
_COLOURS = {"plain": "#9aa5b1", "minimal": "#9aa5b1"}
_OURS = "#2f6fde"


class Group(NamedTuple):
    """Bars that share a scale: a caption, the unit, and label and value of each bar."""

    caption: str
    unit: str
    bars: Sequence[tuple[str, float]]


def draw(path: Path, title: str, footer: str, groups: Sequence[Group]) -> None:
    """Write a picture of horizontal bars, one scale per group. Raises ImageError where it cannot be written."""
    rows = sum(len(group.bars) + 2 for group in groups)
    canvas = Image.new("RGB", (_WIDTH, _ROW * (rows + 3)), "white")
    pen = ImageDraw.Draw(canvas)
    large, small = (ImageFont.load_default(size) for size in (17, 13))
    pen.text((16, 12), title, "#1d2733", large)
    y = 2 * _ROW
    for group in groups:
        pen.text((16, y), f"{group.caption} ({group.unit})", "#1d2733", small)
        y += _ROW
        longest = max((value for _, value in group.bars), default=0.0) or 1.0
        for label, value in group.bars:
            length = round((_WIDTH - _LABEL - _VALUE) * value / longest)
            colour = _COLOURS.get(label.split()[0], _OURS)
            pen.text((28, y + 3), label, "#3c4856", small)
            pen.rectangle((_LABEL, y + 2, _LABEL + max(1, length), y + _ROW - 6), fill=colour)
            pen.text(
                (_LABEL + length + 8, y + 3), f"{value:,.0f}" if value >= 100 else f"{value:.3g}", "#3c4856", small
            )
            y += _ROW
        y += _ROW // 2
    pen.text((16, canvas.height - _ROW), footer, "#7b8794", small)
    images.write(path, np.asarray(canvas))

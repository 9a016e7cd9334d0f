"""The styles that a model was to paint: their pictures, by which its repaintings are scored. Finding them, no torch."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fst.bundle import Recipe
from fst.errors import FstError, UsageError
from fst.inputs import Value
from fst.training.styles import STYLES_VARIABLE, Style, named_style

if TYPE_CHECKING:
    from torch import Tensor

_SIZE_PX = 512  # of a style whose model does not say


class Wanted(NamedTuple):
    """A style that is asked for: its name, its share of the mix, its picture at each of its sizes (1, 3, h, w)."""

    name: str
    share: float
    pictures: "list[Tensor]"

    @property
    def says(self) -> str:
        """In words: "wave at 512 px"."""
        sides = " and ".join(str(max(picture.shape[-2:])) for picture in self.pictures)
        return f"{'' if self.share == 1 else f'{self.share:.0%} '}{self.name} at {sides} px"


def find_styles(
    recipe: Recipe,
    inputs: Mapping[str, Value],
    *,
    image: Path | None = None,
    size_px: Sequence[int] | None = None,
) -> list[Wanted]:
    """The styles that `inputs` ask of the model, as large as it learnt them, times the stroke that they ask for.

    Args:
        recipe: of the model.
        inputs: settled, see `Stylizer.inputs`.
        image: the style's picture; None looks for the one that the model learnt, by the style's name. Where it is that
            same file, its crop is the same, too.
        size_px: longest sides at which the styles are seen instead.

    Raises:
        UsageError: a picture that is not to be had or is too small, or one picture for several styles.
    """
    shares = inputs.get("styles")
    chosen = [(style, 1.0) for style in recipe.styles[:1]]
    if isinstance(shares, list):
        chosen = [(style, share) for style, share in zip(recipe.styles, shares, strict=True) if share]
    if image is not None:
        if len(chosen) > 1:
            raise UsageError(f"--style-image is one picture, and {len(chosen)} styles are mixed: leave one of them out")
        found = [(_given(image, chosen[0][0] if chosen else {}, size_px), 1.0)]
    elif not chosen:
        raise UsageError(f"{recipe.name} does not say what its style is called: add --style-image PICTURE")
    else:
        found = [(find_learnt(recipe.name, style, size_px), share) for style, share in chosen]
    stroke = inputs.get("stroke", 1.0)
    assert not isinstance(stroke, list)
    return [Wanted(style.label, share, style.pictures(stroke=stroke)) for style, share in found]


def _given(image: Path, learnt: Mapping[str, Any], size_px: Sequence[int] | None) -> Style:
    if not image.is_file():
        raise UsageError(f"--style-image {image}: no such file")
    same = hashlib.sha256(image.read_bytes()).hexdigest() == learnt.get("sha256")
    return Style(
        image=str(image.resolve()),
        size_px=list(size_px or learnt.get("size_px") or [_SIZE_PX]),
        crop=learnt.get("crop") if same else None,
    )


def find_learnt(model: str, learnt: Mapping[str, Any], size_px: Sequence[int] | None = None) -> Style:
    """A style of a model's recipe, with the picture that the model learnt.

    Args:
        model: how to call it in an error.
        learnt: what the recipe says of the style.
        size_px: longest sides at which it is seen, instead of those at which it was learnt.

    Raises:
        UsageError: the picture is not to be had.
    """
    name, sizes = str(learnt.get("name")), list(size_px or learnt.get("size_px") or [_SIZE_PX])
    try:
        style = named_style({"style": name, "crop": learnt.get("crop"), "size_px": sizes}, size_px=sizes)
        path = style.find()
    except FstError as error:
        raise UsageError(
            f"the picture that {model} learnt as {name!r} is not here: put it into the folder that {STYLES_VARIABLE} "
            "names, or add --style-image PICTURE"
        ) from error
    if learnt.get("sha256") not in (None, style.file_sha256):
        raise UsageError(f"{path} is not the picture that {model} learnt as {name!r}: say which with --style-image")
    return style

"""`fst gallery`: every style on every photo. No torch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from fst import bundle, card, images
from fst.errors import FstError, UsageError
from fst.evaluation.paintings import Painting, Result, Wishes, paint
from fst.evaluation.wanted import find_learnt
from fst.inference.style_pictures import at_size, is_code
from fst.inference.stylizer import Stylizer
from fst.inference.variations import draw

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
_VARIATIONS = 3
_PICTURE_PX = 320  # longest side of a style's own picture


@dataclass(frozen=True)
class Exhibit:
    """A style to be shown.

    Args:
        model: as a Stylizer takes it.
        name: how the style is called: MODEL, MODEL:STYLE, or what else tells it from the others.
        recipe: of the model.
        credit: the work that was learnt, with its licence.
        wishes: for `Stylizer.inputs`, but for the strength.
        picture: the style's own, (H, W, 3) uint8, where it is to be had.
    """

    model: str
    name: str
    recipe: bundle.Recipe
    credit: str = ""
    wishes: Wishes = field(default_factory=dict)
    picture: images.Pixels | None = field(default=None, repr=False)

    @property
    def strengths(self) -> Sequence[float]:
        """At which it is painted; () where the model has none."""
        return STRENGTHS if "strength" in self.recipe.inputs else ()

    def described(self) -> Result:
        """For a file of results."""
        told = {"name": self.name, "model": self.model, "method": self.recipe.method, "credit": self.credit}
        return told | {"net": card.net_in_words(self.recipe.net), "strengths": list(self.strengths)}


def plan(models: Sequence[str], style_images: Sequence[str] = (), *, say: Callable[[str], None]) -> list[Exhibit]:
    """What there is to show: each style of each model, a model of any style with each picture, some variations.

    Args:
        models: as a Stylizer takes them.
        style_images: for models that paint like any picture.
        say: told of such a model that is left out, because there is no picture.

    Raises:
        UsageError: no such model or style, a picture that cannot be taken, or nothing to show at all.
    """
    found: list[Exhibit] = []
    takes_pictures = False
    for model in dict.fromkeys(models):
        stylizer = Stylizer(model)
        takes_picture = "style_code" in stylizer.recipe.inputs
        takes_pictures |= takes_picture
        if takes_picture and not style_images:
            say(f"{model} is left out: it paints like any picture, see --style-image")
            continue
        styles = _of_pictures(stylizer, model, style_images) if takes_picture else _learnt(stylizer, model)
        found += [variation for style in styles for variation in _variations(style)]
    if style_images and not takes_pictures:
        raise UsageError("--style-image is for models that paint like any picture, and none of these does")
    if not found:
        raise UsageError("nothing to show: name a style, or a picture with --style-image")
    names = [each.name for each in found]  # models of two runs have one name, and pictures of two folders may
    return [
        replace(each, name=f"{each.name} ({number}: {each.model})") if names.count(each.name) > 1 else each
        for number, each in enumerate(found, 1)
    ]


def paint_all(
    exhibits: Sequence[Exhibit], photos: Sequence[Path], *, max_side: int
) -> Iterator[tuple[int, int, Painting]]:
    """Repaint each photo in each style: numbers of style and photo, from 0, and the painting.

    Its results are one for each strength, or a single one. A model is given up before the next one is opened.
    """
    for model, group in groupby(enumerate(exhibits), key=lambda each: each[1].model):
        stylizer = Stylizer(model)
        for number, exhibit in group:
            wishes: list[Wishes] = [{**exhibit.wishes, "strength": strength} for strength in exhibit.strengths]
            wishes = wishes or [exhibit.wishes]
            for place, painting in enumerate(paint(stylizer, photos, max_side=max_side, wishes=wishes)):
                yield number, place, painting


def _learnt(stylizer: Stylizer, model: str) -> list[Exhibit]:
    recipe, name = stylizer.recipe, stylizer.path.stem
    several, chosen = "styles" in recipe.inputs, bundle.split_style(model)[1]
    named = list(zip(recipe.style_names, recipe.styles, strict=True)) or [("", {})]
    styles = [each for each in named if chosen in (None, each[0])] if several else named[:1]
    return [
        Exhibit(
            model,
            f"{name}:{label}" if several else name,
            recipe,
            credit=card.credit(style) or recipe.license or "",
            wishes={"styles": label} if several else {},
            picture=_own_picture(recipe.name, style),
        )
        for label, style in styles
    ]


def _of_pictures(stylizer: Stylizer, model: str, pictures: Sequence[str]) -> list[Exhibit]:
    return [
        Exhibit(
            model,
            f"{stylizer.path.stem}, like {Path(picture).name}",
            stylizer.recipe,
            wishes={"style_code": stylizer.encode(picture)},
            picture=None if is_code(picture) else at_size(picture, _PICTURE_PX),
        )
        for picture in pictures
    ]


def _variations(exhibit: Exhibit) -> list[Exhibit]:
    inputs = exhibit.recipe.inputs
    if "noise" not in inputs and "rotation" not in inputs:
        return [exhibit]
    return [
        replace(
            exhibit,
            name=f"{exhibit.name}, variation {number + 1}",
            wishes={**exhibit.wishes, **draw(inputs, 0, number)},
        )
        for number in range(_VARIATIONS)
    ]


def _own_picture(model: str, style: Mapping[str, Any]) -> images.Pixels | None:
    try:
        pixels = np.asarray(find_learnt(model, style).cropped())
    except FstError:
        return None
    return images.resize(pixels, images.fit_within((pixels.shape[1], pixels.shape[0]), _PICTURE_PX))

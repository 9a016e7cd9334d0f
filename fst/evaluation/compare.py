"""`fst compare`: several models beside each other. Without scores, no torch."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fst.errors import UsageError
from fst.evaluation.paintings import Painting, Result, paint
from fst.inference.stylizer import Stylizer

if TYPE_CHECKING:
    from fst.evaluation.scores import Judge


def compare(
    stylizers: Sequence[Stylizer],
    photos: Sequence[Path],
    *,
    max_side: int = 512,
    judge: "Judge | None" = None,
    style_image: Path | None = None,
    style_size_px: Sequence[int] | None = None,
    say: Callable[[str], None],
) -> Iterator[tuple[int, int, Painting, Result]]:
    """Repaint each photo with each model: numbers of model and photo, from 0, the painting, and its row of results.

    Args:
        stylizers: the models.
        photos: files.
        max_side: longest side of what is painted, in pixels.
        judge: who scores; None: nobody.
        style_image, style_size_px: picture and sizes to score all models by, and not each by what it learnt; models of
            any style paint like the picture.
        say: told of a model whose style's picture is not to be had: it goes without scores.
    """
    for number, stylizer in enumerate(stylizers):
        scored: Iterator[tuple[Painting, Result]] | None = None
        told = {"style_image": style_image} if "style_code" in stylizer.recipe.inputs else {}
        if judge is not None:
            from fst.evaluation.evaluate import evaluate
            from fst.evaluation.wanted import find_styles

            try:
                styles = find_styles(stylizer.recipe, stylizer.inputs(**told), image=style_image, size_px=style_size_px)
            except UsageError as error:
                say(f"no scores of {stylizer.recipe.name}: {error}")
            else:
                found = evaluate(stylizer, photos, styles, judge, max_side=max_side, wishes=told)
                scored = ((each.painting, each.row) for each in found)
        if scored is None:
            scored = (
                (painting, painting.described())
                for painting in paint(stylizer, photos, max_side=max_side, wishes=[told])
            )
        for place, (painting, row) in enumerate(scored):
            yield number, place, painting, row

"""`fst eval`: a model's repaintings scored, photo by photo."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from fst import images
from fst.evaluation.paintings import Painting, Result, Wishes, means, medians, paint
from fst.evaluation.reference import Reference, gatys
from fst.evaluation.scores import Judge
from fst.evaluation.wanted import Wanted
from fst.inference.stylizer import Stylizer
from fst.inference.variations import draw


@dataclass(frozen=True)
class Progress:
    """Which of how many photos is being painted, from 1, and where its reference stands, if there is one."""

    photo: int
    photos: int
    path: Path
    iteration: int = 0
    total: float = 0.0


class Scored(NamedTuple):
    """A repainted photo, its row of a file of results, and the reference where one was asked for."""

    painting: Painting
    row: Result
    reference: Reference | None = None


def evaluate(
    stylizer: Stylizer,
    photos: Sequence[Path],
    styles: Sequence[Wanted],
    judge: Judge,
    *,
    max_side: int = 512,
    wishes: Wishes | None = None,
    variations: int = 0,
    seed: int = 0,
    diversity: float | None = None,
    iterations: int = 0,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Iterator[Scored]:
    """Repaint each photo and score what comes out.

    A photo that cannot be read, or is too small, comes with its error and does not stop the others.

    Args:
        stylizer: the model.
        photos: files.
        styles: what the model was to paint, see `find_styles`.
        judge: who scores.
        max_side: longest side of what is painted, in pixels.
        wishes: for `Stylizer.inputs`.
        variations: how many different pictures of each photo; 0: one.
        seed, diversity: of the variations, see variations.draw.
        iterations: of the reference (see `gatys`); 0: none.
        on_progress: told where the work stands.

    Raises:
        UsageError: wishes or variations that the model cannot fulfil.
    """
    each = dict(wishes or {})
    declared, name = stylizer.recipe.inputs, stylizer.recipe.name
    drawn = [draw(declared, seed, number, diversity=diversity, model=name) for number in range(variations)]
    asked = [each | one for one in drawn] or [each]
    pictures = [picture for style in styles for picture in style.pictures]
    shares = [style.share / len(style.pictures) for style in styles for _ in style.pictures]
    target = judge.target(pictures, shares)
    for number, painting in enumerate(paint(stylizer, photos, max_side=max_side, wishes=asked), 1):
        at = Progress(number, len(photos), painting.path)
        on_progress(at)
        if painting.error is not None:
            yield Scored(painting, painting.described())
            continue
        photo = _tensor([painting.photo])
        row = painting.described() | judge.score(photo, _tensor(painting.results), target)
        reference = None
        if iterations:

            def tell(step: int, total: float, at: Progress = at) -> None:
                on_progress(replace(at, iteration=step, total=total))

            reference = gatys(photo, pictures, shares, judge, iterations=iterations, on_iteration=tell)
            row |= {
                "gatys_iterations": reference.as_good_as(row["total"]),
                "times_reference": row["total"] / min(reference.totals),
                "gatys_totals": reference.totals,
            }
        yield Scored(painting, row, reference)


def summarize(
    rows: Sequence[Result], stylizer: Stylizer, styles: Sequence[Wanted], judge: Judge, *, settings: Result
) -> Result:
    """Everything that there is to know of an evaluation, as plain JSON; "notes" are lines for people."""
    recipe = stylizer.recipe
    notes = [
        f"{recipe.name} ({stylizer.path.name}), {judge.says}",
        f"style: {', '.join(style.says for style in styles)}; photos of {settings['max_side']} px at most",
    ]
    return {
        "model": {"name": recipe.name, "path": str(stylizer.path), "method": recipe.method, "steps": recipe.steps},
        "perceptual": judge.described(),
        "styles": [
            {"name": style.name, "share": style.share, "size_px": [max(each.shape[-2:]) for each in style.pictures]}
            for style in styles
        ],
        "settings": settings,
        "notes": notes,
        "photos": list(rows),
        "median": medians(rows),
        "mean": means(rows),
    }


def _tensor(pictures: Sequence[images.Pixels]) -> torch.Tensor:
    """N of (H, W, 3) uint8 -> (N, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.concatenate([images.to_float(picture) for picture in pictures]))

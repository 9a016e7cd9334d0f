"""The scale of Gatys iterations."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from fst import images
from fst.evaluation.reference import Reference, gatys
from fst.evaluation.scores import Judge


def test_the_first_iteration_that_is_as_good() -> None:
    reference = Reference([0.9, 0.5, 0.6, 0.3], np.zeros((1, 1, 3), np.uint8))
    found = [reference.as_good_as(total) for total in (1.0, 0.9, 0.7, 0.5, 0.4, 0.3, 0.2)]
    assert found == [1, 1, 2, 2, 4, 4, None]


@pytest.mark.parametrize("sides", [(30, 70), (70, 30), (24, 24)])
def test_it_is_painted_and_scored_by_the_same_target(photo: Callable[..., Image.Image], sides: tuple[int, int]) -> None:
    """The first iteration is the photo, the result the best one; styles larger than the photo are left so."""
    judge, told = Judge("lite"), []
    small = torch.from_numpy(images.to_float(np.asarray(photo(0, 32, 24))))
    styles = [torch.from_numpy(images.to_float(np.asarray(photo(n + 1, side, side)))) for n, side in enumerate(sides)]
    shares = [0.25, 0.75]
    found = gatys(
        small, styles, shares, judge, iterations=6, on_iteration=lambda number, total: told.append((number, total))
    )
    target = judge.target(styles, shares)
    assert found.totals[0] == pytest.approx(judge.score(small, small, target)["style"], rel=1e-4)
    assert told == list(enumerate(found.totals, 1))
    assert len(told) == 6
    result = torch.from_numpy(images.to_float(found.picture))
    assert judge.score(small, result, target)["total"] == pytest.approx(min(found.totals), rel=0.02)  # of 8 bits
    assert min(found.totals) < 0.9 * found.totals[0]

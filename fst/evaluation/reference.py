"""The scale of Gatys iterations: after how many steps on a photo's own pixels the loss is as low as a network's."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from fst import images
from fst.evaluation.scores import Judge
from fst.optimize.pixels import optimize

OnIteration = Callable[[int, float], None]


@dataclass(frozen=True)
class Reference:
    """A photo painted by gradient descent.

    Args:
        totals: the total loss at each iteration, of which the first is the photo itself.
        picture: the best of them, (H, W, 3) uint8.
    """

    totals: Sequence[float]
    picture: images.Pixels = field(repr=False)

    def as_good_as(self, total: float) -> int | None:
        """The first iteration whose loss is no higher than `total`, counted from 1; None where there is none."""
        return next((number for number, each in enumerate(self.totals, 1) if each <= total), None)


def gatys(
    photo: Tensor,
    styles: Sequence[Tensor],
    shares: Sequence[float],
    judge: Judge,
    *,
    iterations: int,
    on_iteration: OnIteration = lambda number, total: None,
) -> Reference:
    """Paint a photo (1, 3, H, W) as Gatys et al. 2016 do, against the very target that `judge` scores by.

    Adam from the photo, at one size, in float32. Johnson et al. 2016, section 4.1, put their networks on this scale.

    Args:
        photo: RGB in [0, 1].
        styles: (1, 3, h, w), seen as large as they are.
        shares: of each style.
        judge: loss and network.
        iterations: how many.
        on_iteration: told each iteration's number and total loss.
    """
    side = max(photo.shape[-2:])
    totals: list[float] = []
    last = None
    for last in optimize(
        photo,
        styles,
        judge.extractor,
        judge.loss,
        iterations=iterations,
        style_weights=shares,
        style_scale=math.ceil(
            max(max(style.shape[-2:]) for style in styles) / side
        ),  # large enough to leave them alone
        start_size=side,
        optimizer="adam",
    ):
        totals.append(last.terms["total"])
        on_iteration(last.step, totals[-1])
    assert last is not None
    return Reference(totals, images.to_uint8(last.result().numpy()))

"""Many results from one photo: what a model is told for each of them."""

import math
from collections.abc import Mapping

import numpy as np

from fst.errors import UsageError
from fst.inputs import Value

Vector = np.ndarray[tuple[int], np.dtype[np.float32]]
_DIVERSITY = 0.7
_GROUP = 6  # rotations that are drawn together


def draw(
    inputs: Mapping[str, Value], seed: int, number: int, *, diversity: float | None = None, model: str = "the model"
) -> dict[str, Vector]:
    """The wishes for one of many results: the same for the same seed and number.

    Args:
        inputs: the model's, as its recipe declares them.
        seed, number: of the variation, 0 or more; every seed has as many as are asked for.
        diversity: of a rotation, see there; None is 0.7.
        model: how to call it in an error.

    Returns: {"noise": (K,) float32, drawn from a standard normal distribution}, or {"rotation": (C^2,) float32}.

    Raises:
        UsageError: the model paints a photo in one way only, or has no such diversity; a number out of its range.
    """
    if "noise" not in inputs and "rotation" not in inputs:
        raise UsageError(
            f"{model} paints a photo in one way only: variations and seed are for models of method=diverse, and of "
            "method=adain with net.transfer=wct"
        )
    if seed < 0 or number < 0:
        raise UsageError(f"seed and number of a variation are 0 or more, not {seed} and {number}")
    if "rotation" in inputs:
        share = _DIVERSITY if diversity is None else diversity
        return {"rotation": rotation(inputs["rotation"], seed, number, diversity=share)}  # type: ignore[arg-type]
    if diversity is not None:
        raise UsageError(f"{model} has learnt how much its results differ: leave diversity out")
    length = int(inputs["noise"])  # type: ignore[arg-type]
    return {"noise": np.random.default_rng([seed, number]).standard_normal(length).astype(np.float32)}


def rotation(length: int, seed: int, number: int, *, diversity: float = 1.0) -> Vector:
    """A random rotation of C dimensions less the identity, row by row, (length,) float32.

    Whitened features that are turned by it make another picture of the same style: Wang et al. 2020, "Diversified
    Arbitrary Style Transfer via Deep Feature Perturbation", section 3.2.

    Departures from it: features are turned part of the way, and not mixed with the turned ones, which would leave
    half of their variance, and with it less of the style (for another see `fst.feature_stats.whitening_coloring`). And
    rotations are drawn six at a time, whose generators (of normal numbers, skew) have the mean 0: so they differ more
    from one another than from the picture without any.

    Args:
        length: C^2, for features of C channels.
        seed, number: 0 or more.
        diversity: how far: 0 leaves features where they are; at 1 the angles are as large, in the mean of their
            squares, as those of rotations that are all as likely.

    Raises:
        UsageError: a diversity out of its range.
    """
    if not 0 <= diversity <= 1:
        raise UsageError(f"diversity (how much results differ) goes from 0 to 1, not {diversity:g}")
    c = math.isqrt(length)
    group, place = divmod(number, _GROUP)
    drawn = np.random.default_rng([seed, group]).standard_normal((_GROUP, c, c))
    own = (drawn[place] - drawn.mean(0)) * math.sqrt(_GROUP / (_GROUP - 1))  # of variance 1 again
    angles, axes = np.linalg.eigh(1j * (own - own.T) * (diversity * math.pi / math.sqrt(6 * c)))
    turned: Vector = (((axes * np.exp(-1j * angles)) @ axes.conj().T).real - np.eye(c)).astype(np.float32).ravel()
    return turned

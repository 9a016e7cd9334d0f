"""Many results from one photo: what a model is told for each of them."""

from collections.abc import Mapping

import numpy as np

from fst.errors import UsageError
from fst.inputs import Value

Vector = np.ndarray[tuple[int], np.dtype[np.float32]]


def draw(inputs: Mapping[str, Value], seed: int, number: int, *, model: str = "the model") -> dict[str, Vector]:
    """The wishes for one of many results: the same for the same seed and number, on every machine.

    Args:
        inputs: the model's, as its recipe declares them.
        seed, number: of the variation, 0 or more; every seed has as many as are asked for.
        model: how to call it in an error.

    Returns: {"noise": (K,) float32, drawn from a standard normal distribution}.

    Raises:
        UsageError: the model paints a photo in one way only, or a number below 0.
    """
    if "noise" not in inputs:
        raise UsageError(
            f"{model} paints a photo in one way only: variations and seed are for models of method=diverse"
        )
    if seed < 0 or number < 0:
        raise UsageError(f"seed and number of a variation are 0 or more, not {seed} and {number}")
    length = int(inputs["noise"])  # type: ignore[arg-type]
    return {"noise": np.random.default_rng([seed, number]).standard_normal(length).astype(np.float32)}

"""Deep feature perturbation: whitened features, turned at random, make another picture of the same style."""

import math

import numpy as np

from fst.errors import UsageError


def rotation(
    length: int, seed: int, number: int, *, diversity: float = 1.0
) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """A random orthogonal matrix less the identity, row by row, (length,) float32: the same for a seed and a number.

    Wang et al. 2020, "Diversified Arbitrary Style Transfer via Deep Feature Perturbation", section 3.2. The matrix is
    drawn evenly among all (Mezzadri 2007, "How to Generate Random Matrices from the Classical Compact Groups",
    section 5).

    Args:
        length: C^2, for features of C channels.
        seed, number: 0 or more.
        diversity: how far the features go from where they are, 0, to where the matrix takes them, 1.

    Raises:
        UsageError: a diversity out of its range.
    """
    if not 0 <= diversity <= 1:
        raise UsageError(f"diversity (how much results differ) goes from 0 to 1, not {diversity:g}")
    c = math.isqrt(length)
    q, r = np.linalg.qr(np.random.default_rng([seed, number]).standard_normal((c, c)))
    q *= np.sign(np.diag(r))
    return (diversity * (q - np.eye(c))).astype(np.float32).ravel()

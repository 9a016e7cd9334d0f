"""fst.optimize.descent on functions whose minimum is known."""

import math

import pytest
import torch
from torch import Tensor

from fst.optimize.descent import LBFGS, Adam

CURVATURES = torch.logspace(0, 3, 40)
INSIDE = torch.linspace(0.1, 0.9, 40)


def minimise(descent: LBFGS | Adam, goal: Tensor, steps: int) -> tuple[Tensor, list[float]]:
    """Go down on the mean of curvature × (pixels − goal)² from 0.5, and return the best pixels and all losses."""
    pixels, losses, seen = torch.full_like(goal, 0.5), [], []
    for _ in range(steps):
        error = pixels - goal
        losses.append(float((CURVATURES * error.square()).mean()))
        seen.append(pixels)
        pixels = descent.step(pixels, losses[-1], 2 * CURVATURES * error / len(goal))
        assert pixels.min() >= 0
        assert pixels.max() <= 1
    return seen[min(range(steps), key=losses.__getitem__)], losses


def test_lbfgs_finds_an_ill_conditioned_minimum() -> None:
    best, losses = minimise(LBFGS(), INSIDE, 100)
    assert min(losses) < 1e-6 * losses[0]
    torch.testing.assert_close(best, INSIDE, atol=5e-3, rtol=0)


def test_minima_beyond_the_bounds_end_on_them() -> None:
    goal = torch.linspace(-0.5, 1.5, 40)
    for descent, steps, within in ((LBFGS(), 100, 5e-3), (Adam(), 400, 2e-2)):
        best, _ = minimise(descent, goal, steps)
        torch.testing.assert_close(best, goal.clamp(0, 1), atol=within, rtol=0)


def test_lbfgs_is_ahead_of_adam() -> None:
    (_, by_lbfgs), (_, by_adam) = minimise(LBFGS(), INSIDE, 60), minimise(Adam(), INSIDE, 60)
    assert min(by_lbfgs) < 0.1 * min(by_adam)


def test_a_step_that_makes_it_worse_is_shortened() -> None:
    """A wall that the first step runs into: the next looks a quarter as far, along the same line."""
    descent, start, gradient = LBFGS(), torch.full((4,), 0.5), torch.tensor([1.0, 0.0, 0.0, 0.0])
    first = descent.step(start, 1.0, gradient)
    second = descent.step(first, 5.0, -gradient)
    torch.testing.assert_close(second - start, (first - start) / 4)
    third = descent.step(second, float("nan"), -gradient)
    torch.testing.assert_close(third - start, (first - start) / 16)


def test_the_first_step_moves_pixels_by_a_hundredth() -> None:
    """Root mean square, whatever the size of the gradient."""
    for scale in (1e-6, 1.0, 1e6):
        moved = LBFGS().step(torch.full((40,), 0.5), 1.0, scale * CURVATURES) - 0.5
        assert float(moved.square().mean().sqrt()) == pytest.approx(0.01, rel=1e-4)
        assert moved.max() < 0


def test_adam_against_the_papers_formula() -> None:
    """Kingma & Ba 2015, algorithm 1, in float64."""
    gradients = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    descent, pixels = Adam(), torch.full((7,), 0.5)
    expected, m, v = [0.5] * 7, [0.0] * 7, [0.0] * 7
    for t, gradient in enumerate(gradients.double().tolist(), 1):
        pixels = descent.step(pixels, 1.0, torch.tensor(gradient))
        for i, g in enumerate(gradient):
            m[i], v[i] = 0.9 * m[i] + 0.1 * g, 0.999 * v[i] + 0.001 * g * g
            expected[i] -= 0.03 * (m[i] / (1 - 0.9**t)) / (math.sqrt(v[i] / (1 - 0.999**t)) + 1e-8)
    torch.testing.assert_close(pixels, torch.tensor(expected), atol=1e-6, rtol=0)

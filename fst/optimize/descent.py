"""Ways down: told the loss and its gradient at some pixels, each says where to look next, within [0, 1]."""

from collections import deque
from typing import NamedTuple

import torch
from torch import Tensor

_FIRST_STEP = 0.01  # root mean square change of a pixel where nothing is known of the curvature yet
_LARGEST_STEP = 0.1  # the same, of any step
_SHRINK = 0.25


class _Point(NamedTuple):
    pixels: Tensor
    loss: float
    gradient: Tensor


class LBFGS:
    """Proposes the next pixels from the loss and gradient at the last (Nocedal & Wright 2006, algorithm 7.4).

    Departures: steps are projected onto [0, 1], pixels that push against a bound stay out of the direction, and what
    is learnt of the curvature is learnt from the projected step (Byrd et al. 1995 treat bounds exactly). No line
    search: the full step is taken, and a quarter of it where that made the loss larger.

    Args:
        memory: so many steps are remembered; each takes two pictures of float32.
    """

    def __init__(self, *, memory: int = 20) -> None:
        self._pairs: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=memory)
        self._last: _Point | None = None
        self._direction: Tensor | None = None
        self._length = 1.0

    def step(self, pixels: Tensor, loss: float, gradient: Tensor) -> Tensor:
        """Where to look next, after `loss` and `gradient` at `pixels`: flat float32 tensors, pixels in [0, 1]."""
        last = self._last
        if last is not None and self._direction is not None and not loss <= last.loss:
            self._length *= _SHRINK
            if self._length < _SHRINK**2 and self._pairs:  # the curvature misleads: begin anew with the gradient
                self._pairs.clear()
                self._direction = None
                return self._look(last)
            return (last.pixels + self._length * self._direction).clamp_(0, 1)
        if last is not None:
            moved, bent = pixels - last.pixels, gradient - last.gradient
            curvature = moved @ bent
            if curvature > 1e-10 * (bent @ bent):
                self._pairs.append((moved, bent, curvature))
        self._last = _Point(pixels, loss, gradient)
        return self._look(self._last)

    def _look(self, at: _Point) -> Tensor:
        free = ~(((at.pixels <= 0) & (at.gradient > 0)) | ((at.pixels >= 1) & (at.gradient < 0)))
        slope = at.gradient * free
        direction = self._times_inverse_hessian(slope).neg_().mul_(free)
        if not direction @ slope < 0:
            self._pairs.clear()
            direction = -slope
        size = float(direction.square().mean().sqrt()) + 1e-30
        self._length = min(1.0, _LARGEST_STEP / size) if self._pairs else _FIRST_STEP / size
        self._direction = direction
        return (at.pixels + self._length * direction).clamp_(0, 1)

    def _times_inverse_hessian(self, slope: Tensor) -> Tensor:
        """The two loops over the remembered steps; a copy of `slope` where there are none."""
        direction, shares = slope.clone(), []
        for moved, bent, curvature in reversed(self._pairs):
            share = (moved @ direction) / curvature
            direction -= share * bent
            shares.append(share)
        if self._pairs:
            _, bent, curvature = self._pairs[-1]
            direction *= curvature / (bent @ bent)
        for (moved, bent, curvature), share in zip(self._pairs, reversed(shares), strict=True):
            direction += (share - (bent @ direction) / curvature) * moved
        return direction


class Adam:
    """Adam (Kingma & Ba 2015), with pixels kept in [0, 1]."""

    def __init__(self, *, lr: float = 0.03) -> None:
        self._lr = lr
        self._pixels: Tensor | None = None

    def step(self, pixels: Tensor, loss: float, gradient: Tensor) -> Tensor:
        """Where to look next, after `gradient` at `pixels`: flat float32 tensors, pixels in [0, 1]."""
        if self._pixels is None:
            self._pixels = pixels.clone()
            self._adam = torch.optim.Adam([self._pixels], lr=self._lr)
        self._pixels.grad = gradient
        self._adam.step()
        return self._pixels.clamp_(0, 1).clone()

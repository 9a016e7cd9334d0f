"""How the learning rate goes over a run."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from fst.errors import UsageError


def constant(optimizer: Optimizer, *, max_steps: int) -> LRScheduler:
    """The optimizer's own rate from first to last, as in Johnson et al. 2016."""
    return LambdaLR(optimizer, lambda step: 1.0)


def cosine(optimizer: Optimizer, *, max_steps: int, warmup_steps: int = 100, final: float = 0.02) -> LRScheduler:
    """Linear warm-up to the optimizer's rate, then half a cosine down to `final` times it at `max_steps`.

    Args:
        warmup_steps: at most a tenth of `max_steps` is used.
        final: fraction of the rate that is left at the end.

    Raises:
        UsageError: a run without an end (`max_steps` is -1), or a `final` below 0.
    """
    if max_steps < 1:
        raise UsageError("schedule=cosine ends at trainer.max_steps: set it, or choose schedule=constant")
    if not (isinstance(final, int | float) and 0 <= final < math.inf):
        raise UsageError(f"schedule.final must be a number of 0 or more, not {final!r}")
    warmup = max(1, min(warmup_steps, max_steps // 10))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, max_steps - warmup))
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)

"""torch.compile for the network and the extractor: where it pays, and with a reason where it is left out."""

import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from fst.errors import UsageError

_COMPILERS = ("c++", "g++", "clang++", "cl", "icx", "icpx")


def compile_modules(modules: Iterable[nn.Module], asked: bool | str, device: torch.device) -> str | None:
    """Compile modules in place, so that their first call does the work; say why not where that was asked for.

    Args:
        modules: called again and again with inputs of few shapes.
        asked: True, False, or "auto": on a GPU only. On a CPU convolutions are nine tenths of the time, and they are
            the same compiled or not.
        device: where they run.

    Returns:
        One line for the user where it was asked for and cannot be done, else None.

    Raises:
        UsageError: another value of `asked`.
    """
    if asked not in (True, False, "auto"):
        raise UsageError(f"compile must be auto, true or false, not {asked!r}")
    if asked is False or (asked == "auto" and device.type != "cuda"):
        return None
    if reason := why_not(device):
        return f"not compiled: {reason}"
    for module in modules:
        module.compile()
    return None


def why_not(device: torch.device, which: Callable[[str], str | None] = shutil.which) -> str | None:
    """What torch.compile lacks on this machine, or None."""
    if not any(which(name) for name in (os.environ.get("CXX", ""), *_COMPILERS) if name):
        return "no C++ compiler was found (set CXX, or install g++ or clang)"
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        if not has_triton():
            return "triton is not installed, or this GPU is too old for it"
    return None


def eagerly() -> AbstractContextManager[Any]:
    """A context in which compiled modules run as they were written: for the odd call with shapes of its own."""
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance

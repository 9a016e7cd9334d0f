"""Keep what the process has freed: large blocks are not given back to the system only to be asked for again."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_ALWAYS = 2**30


def keep_freed_memory() -> bool:
    """Tell malloc to reuse freed blocks of every size; whether it listens (glibc only).

    A training step on a CPU allocates and frees the same gigabytes every time. By default glibc maps each large block
    afresh, and the kernel fills its pages with zeros at the first touch: a quarter to a third of the step.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_THRESHOLD, _ALWAYS) and mallopt(_M_TRIM_THRESHOLD, _ALWAYS))

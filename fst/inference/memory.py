"""How much memory a picture takes, and how much there is."""

import contextlib
import ctypes
import re
import sys
from pathlib import Path
from typing import Any

_BASE_BYTES = 120e6  # interpreter, onnxruntime and weights
# Of each network, at width 32: bytes a pixel with onnxruntime's arena, and frugally. Measured in a whole Stylizer:
# johnson 998 and 633 (512x768), fast 90 and 80 (1080x1920).
_BYTES_PER_PIXEL = {"johnson": (1050, 670), "fast": (100, 85)}
# Of an adain network, by its encoder, which takes the most of it.
_BYTES_PER_PIXEL_ENCODED = {"lite": (560, 300), "vgg19": (1600, 1200)}
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def needed_bytes(pixels: int, net: dict[str, Any], *, frugal: bool) -> float:
    """Memory to repaint a picture of so many pixels, by a model's `net` recipe; an unknown network counts as Johnson's.

    `frugal` is without onnxruntime's memory arena, which takes up to twice as long. Both grow with the network's width.
    """
    if "encoder" in net:
        fast, little = _encoded(net)
        return _BASE_BYTES + pixels * (little if frugal else fast) * max(1.0, float(net.get("width", 64)) / 64)
    net = net.get("net", net)  # in a conditional one
    fast, little = _BYTES_PER_PIXEL.get(str(net.get("name")), _BYTES_PER_PIXEL["johnson"])
    return _BASE_BYTES + pixels * (little if frugal else fast) * float(net.get("width", 32)) / 32


def encoder_bytes(pixels: int, net: dict[str, Any]) -> float:
    """Memory to make a style's code from a picture of so many pixels, frugally."""
    return _BASE_BYTES + pixels * _encoded(net)[1]


def _encoded(net: dict[str, Any]) -> tuple[int, int]:
    return _BYTES_PER_PIXEL_ENCODED.get(str(net.get("encoder", {}).get("name")), _BYTES_PER_PIXEL_ENCODED["vgg19"])


def return_freed_blocks() -> None:
    """Let the C library give back every freed block of a megabyte at once: else holes double what a frugal run takes.

    For glibc; elsewhere, nothing. It holds for the whole process.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(-3, 1 << 20)  # M_MMAP_THRESHOLD


def _reclaimable(group: Path) -> float:
    """Cached files of a control group: counted as used, and given up when memory is wanted."""
    stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return float(stat.get("total_inactive_file", stat.get("inactive_file", 0)))


def available_bytes() -> float:
    """Memory that this process may still take: the machine's, its control group's, or its own limit, the least."""
    free = [_machine_bytes()]
    for limit, used in _CGROUPS:
        try:
            free.append(
                float(Path(limit).read_text()) - float(Path(used).read_text()) + _reclaimable(Path(limit).parent)
            )
        except (OSError, ValueError):  # no such group, or "max"
            continue
    try:
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            import psutil

            free.append(float(soft - psutil.Process().memory_info().vms))
    except ImportError:  # Windows
        pass
    return max(0.0, min(free))


def _machine_bytes() -> float:
    try:  # as psutil does, whose import takes a tenth of a short run
        found = re.search(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
        if found:
            return 1024 * float(found[1])
    except OSError:  # not Linux
        pass
    import psutil

    return float(psutil.virtual_memory().available)

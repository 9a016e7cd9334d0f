"""Which number format a run computes in."""

from typing import Any

import torch


def choose(asked: str, accelerator: str) -> str:
    """`asked`; where it is "auto", the fastest that learns as well: bf16-mixed with bfloat16 arithmetic, else 32-true.

    Args:
        asked: a precision of Lightning's Trainer, or "auto".
        accelerator: an accelerator of Lightning's Trainer.
    """
    if asked != "auto":
        return str(asked)
    if accelerator == "mps" or (accelerator in ("auto", "gpu") and torch.backends.mps.is_available()):
        return "32-true"
    gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())
    fast = torch.cuda.is_bf16_supported(including_emulation=False) if gpu else cpu_has_bf16()
    return "bf16-mixed" if fast else "32-true"


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself (AVX-512 BF16 or AMX); emulated, it is slower than float32."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    if capabilities:
        return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "amx_tile", "bf16"))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())

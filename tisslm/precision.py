"""What ``training.precision = "auto"`` comes to on this machine.

What does not live here: how a precision is computed (the model and its kernels).
"""

from __future__ import annotations

from tisslm import ops

__all__ = ["resolve_precision"]

#: The instruction-set level that multiplies bf16 pairs.
BF16_LEVEL = "avx512_bf16"


def resolve_precision(wanted: str) -> str:
    """Return the precision that passes are run in: "fp32", "bf16" or "fp16".

    Parameters
    ----------
    wanted : str
        One of these, or "auto": bf16 where the kernels in use multiply bf16, which halves the
        time of a product and the memory of what is kept; elsewhere fp32.
    """
    if wanted != "auto":
        return wanted
    return "bf16" if ops.engine().get("isa") == BF16_LEVEL else "fp32"

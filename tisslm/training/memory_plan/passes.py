"""How the passes of a run are made once "auto" is settled: precision, activation checkpointing."""

from __future__ import annotations

from typing import NamedTuple

from tisslm import ops

__all__ = ["Passes", "resolve_precision"]


class Passes(NamedTuple):
    """How passes are run, as ``Model.prepare`` is told.

    Attributes
    ----------
    precision : str
        "fp32", "bf16" or "fp16".
    activation_checkpointing : str
        "none", "full" or "every=N".
    """

    precision: str = "fp32"
    activation_checkpointing: str = "none"


def resolve_precision(wanted: str) -> str:
    """Return the precision that passes are run in: "fp32", "bf16" or "fp16".

    Parameters
    ----------
    wanted : str
        One of these, or "auto": bf16 where the kernels in use multiply bf16, which halves the
        time of a matrix product and the memory of activations; elsewhere fp32.
    """
    if wanted != "auto":
        return wanted
    return "bf16" if ops.multiplies_bf16() else "fp32"

"""From logits to an update: losses, optimizers, schedulers, the scale of fp16's gradients.

The classes are loaded on first use (PEP 562): the scale of gradients needs none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tisslm.optim.losses import CrossEntropy, Focal, LabelSmoothing
    from tisslm.optim.optimizers import SGD, Adam, AdamW, RMSprop
    from tisslm.optim.schedulers import (
        Constant,
        Cosine,
        ExponentialDecay,
        ReduceOnPlateau,
        StepDecay,
        WarmupCosine,
        WarmupLinear,
    )

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "CrossEntropy",
    "ExponentialDecay",
    "Focal",
    "LabelSmoothing",
    "RMSprop",
    "ReduceOnPlateau",
    "StepDecay",
    "WarmupCosine",
    "WarmupLinear",
]

_KINDS = ("losses", "optimizers", "schedulers")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for kind in _KINDS:
            home = import_module(f"tisslm.optim.{kind}")
            if name in home.__all__:
                return getattr(home, name)
    raise AttributeError(f"module 'tisslm.optim' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

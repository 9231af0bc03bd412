"""From logits to an update: losses, optimizers, schedulers, and loss scaling for fp16.

The classes are imported on first use (PEP 562), because loss scaling needs none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tisslm.optim.losses import *  # noqa: F403
    from tisslm.optim.optimizers import *  # noqa: F403
    from tisslm.optim.schedulers import *  # noqa: F403

_KINDS = ("losses", "optimizers", "schedulers")


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return sorted(public for home in _homes() for public in home.__all__)
    if not name.startswith("_"):
        for home in _homes():
            if name in home.__all__:
                return getattr(home, name)
    raise AttributeError(f"module 'tisslm.optim' has no attribute {name!r}")


def _homes() -> list[Any]:
    return [import_module(f"tisslm.optim.{kind}") for kind in _KINDS]


def __dir__() -> list[str]:
    return [*__getattr__("__all__")]

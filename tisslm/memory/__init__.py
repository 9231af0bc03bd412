"""Memory that is allocated before the first step: arenas, parameters, and the workspace.

Names are imported on first use, because ``finite`` is also needed where kernels cannot be loaded.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tisslm.memory.arenas import Arena, ShapeArena, aligned
    from tisslm.memory.parameters import (
        Parameter,
        ParameterGroup,
        Parameters,
        grads_to_write,
    )
    from tisslm.memory.specs import ParameterSpec
    from tisslm.memory.workspace import Workspace

__all__ = [
    "Arena",
    "Parameter",
    "ParameterGroup",
    "ParameterSpec",
    "Parameters",
    "ShapeArena",
    "Workspace",
    "aligned",
    "grads_to_write",
]

_HOMES = {
    "Arena": "arenas",
    "Parameter": "parameters",
    "ParameterGroup": "parameters",
    "ParameterSpec": "specs",
    "Parameters": "parameters",
    "ShapeArena": "arenas",
    "Workspace": "workspace",
    "aligned": "arenas",
    "grads_to_write": "parameters",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"tisslm.memory.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'tisslm.memory' has no attribute {name!r}")

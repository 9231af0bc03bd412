"""Memory that is laid out before the first step: arenas, parameters, and the workspace."""

from tisslm.memory.arenas import Arena, ShapeArena, aligned
from tisslm.memory.parameters import (
    Parameter,
    ParameterGroup,
    Parameters,
    ParameterSpec,
    grads_to_write,
)
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

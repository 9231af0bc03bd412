"""The maps that parameters consist of: a fused matrix is several, which are updated apart."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tisslm.errors import ConfigError
from tisslm.memory import Parameter, ParameterGroup, Parameters
from tisslm.memory.shards import ParameterShard, Piece

__all__ = ["Map", "Whole", "check_whole", "groups_of", "maps_of"]

Array = NDArray[Any]

#: What an optimizer of matrices is given: all parameters, or some of them on each rank.
Whole = Parameters | ParameterShard


@dataclass(frozen=True)
class Map:
    """A parameter, or the rows of it that are a map of their own.

    Attributes
    ----------
    parameter : Parameter or Piece
    number : int
        Of the map in its parameter.
    start, rows, columns : int
        Its first element in the flat arrays, and its shape; a vector has one column.
    group : ParameterGroup
        Its decay and scale of the learning rate.
    """

    parameter: Parameter | Piece
    number: int
    start: int
    rows: int
    columns: int
    group: ParameterGroup

    @property
    def slice(self) -> slice:
        """Its elements of the flat arrays."""
        return slice(self.start, self.start + self.rows * self.columns)

    def of(self, array: Array) -> Array:
        """Return its rows of an array whose first axis has the parameter's rows."""
        first = (self.start - self.parameter.offset) // self.columns
        return array[first : first + self.rows]


def check_whole(name: str, parameters: Whole) -> None:
    """Refuse a part of parameters that were cut at elements.

    Parameters
    ----------
    name : str
        Of the optimizer.
    parameters : Parameters or ParameterShard

    Raises
    ------
    ConfigError
        If matrices may be cut.
    """
    if isinstance(parameters, ParameterShard) and not parameters.shaped:
        raise ConfigError(
            f"optimizer {name}: expected whole parameters, got flat pieces of them; cut the shard "
            "between parameters, with shaped=True"
        )


def groups_of(parameters: Whole) -> Iterator[tuple[Parameter | Piece, ParameterGroup]]:
    """Yield each trainable parameter with its group, in the order of the flat arrays."""
    trainable = sorted((p for p in parameters if p.trainable), key=lambda p: p.offset)
    for group in parameters.groups:
        for p in trainable:
            if group.start <= p.offset < group.stop:
                yield p, group


def maps_of(parameters: Whole) -> list[Map]:
    """Return the maps of all trainable parameters, in the order of the flat arrays."""
    found = []
    for p, group in groups_of(parameters):
        rows = p.shape[0] if p.shape else 1
        columns = math.prod(p.shape[1:])
        for number, part in enumerate(p.blocks.values() or (slice(0, rows),)):
            start = p.offset + part.start * columns
            found.append(Map(p, number, start, part.stop - part.start, columns, group))
    return found

"""Every array of a model there, with what it is of ours: a table of names, filled for a shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.config.model import TransformerConfig
from tisslm.memory import ParameterSpec
from tisslm.models.huggingface.names import FAMILIES, Bias, Line, Part
from tisslm.models.initialization import parameter_specs
from tisslm.system.tensor_files import Piece

__all__ = ["Entry", "entries_of", "has_bias"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Entry:
    """An array there, and where its elements are in ours.

    Attributes
    ----------
    theirs : str
        Its name.
    ours : str
        The name of ours; "" where we have none, and theirs is zeros.
    part : str
        As in ``names``; what is no matrix is never transposed.
    shape : tuple of int
        Of the array there.
    first : int
        Where a block begins in our rows.
    heads : int
        H, for rows that are ordered by head.
    """

    theirs: str
    ours: str
    part: Part
    shape: tuple[int, ...]
    first: int = 0
    heads: int = 0

    @property
    def rows(self) -> slice:
        """The rows of ours that this array has, of a block."""
        return slice(self.first, self.first + self.shape[0])

    def of_block(self, number: int) -> Entry:
        """Return the array of a block, of one whose names have {i} for its number."""
        theirs, ours = (name.replace("{i}", str(number)) for name in (self.theirs, self.ours))
        return replace(self, theirs=theirs, ours=ours)

    def taken(self, ours: Array) -> Array:
        """Return the array there, of ours: a view, but for rows by head."""
        if self.part == "whole":
            return ours
        if self.part == "transposed":
            return ours.T
        if self.part == "by head":
            rest = ours.shape[1:]
            heads_H3D = ours.reshape(3, self.heads, -1, *rest).swapaxes(0, 1)
            return np.ascontiguousarray(heads_H3D).reshape(ours.shape)
        return ours[self.rows]

    def placed(self, piece: Piece) -> Piece:
        """Return the elements of a piece there with where they are in ours."""
        where, values = piece
        if self.part == "whole":
            return where, values
        if self.part == "transposed":
            return (where if where is ... else (slice(None), where)), values.T
        if self.part == "by head":
            return self._by_head[where], values
        rows = self.rows
        if where is not ...:
            rows = slice(rows.start + where.start, rows.start + where.stop)
        return rows, values

    @property
    def _by_head(self) -> NDArray[np.intp]:
        """The row of ours for each row there."""
        rows_3HD = np.arange(self.shape[0]).reshape(3, self.heads, -1)
        return np.ascontiguousarray(rows_3HD.swapaxes(0, 1)).reshape(-1)


def has_bias(config: TransformerConfig, when: Bias) -> bool:
    """Return whether the modules of a line have a bias there, for a shape of ours."""
    if when is Bias.ATTENTION:
        return bool(config.qkv_bias or config.out_bias)
    return bool(config.mlp_bias) if when is Bias.MLP else when is Bias.ALWAYS


def entries_of(config: TransformerConfig, prefix: str) -> Iterator[Entry]:
    """Yield every array that the model of a shape has there, but the head.

    Parameters
    ----------
    config : TransformerConfig
    prefix : str
        What their names begin with.
    """
    one = config.model_copy(update={"n_layer": 1})  # all blocks have the arrays of the first
    specs = {spec.name: spec for spec in parameter_specs(one)}
    for line in FAMILIES[config.family].lines:
        found = list(_of_line(line, prefix, specs, config))
        for i in range(config.n_layer if "{i}" in line.theirs else 1):
            yield from (entry.of_block(i) for entry in found)


def _of_line(
    line: Line, prefix: str, specs: Mapping[str, ParameterSpec], config: TransformerConfig
) -> Iterator[Entry]:
    """Yield the arrays of a line, with {i} for the number of the block."""
    theirs, ours, first = f"{prefix}{line.theirs}", line.ours, line.ours.replace("{i}", "0")
    weight, bias = specs.get(f"{first}.weight"), specs.get(f"{first}.bias")
    if weight is None:  # such as norms of queries and keys
        return
    rows = weight.rows().get(line.part, slice(0, weight.shape[0]))
    count = rows.stop - rows.start
    shape = (count, *weight.shape[1:])
    part = line.part if weight.rows() or line.part in ("whole", "transposed") else "whole"
    place = {"first": rows.start, "heads": config.n_head}
    turned = shape[::-1] if part == "transposed" else shape
    yield Entry(f"{theirs}.weight", f"{ours}.weight", part, turned, **place)
    if bias is not None or has_bias(config, line.bias):
        name = "" if bias is None else f"{ours}.bias"
        flat: Part = "whole" if part == "transposed" else part
        yield Entry(f"{theirs}.bias", name, flat, (count,), **place)

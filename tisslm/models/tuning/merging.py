"""Weights with adapters merged into them: W + s B A, one matrix at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.config import AdapterConfig
from tisslm.config.model import TransformerConfig
from tisslm.memory import Parameters, ParameterSpec
from tisslm.models.initialization import parameter_specs
from tisslm.models.tuning.adapters import adapter_names, rows_of
from tisslm.system.tensor_files import Kind, Piece, StreamedArrays, kind_of, pieces_of

__all__ = ["Merged", "merged_in_place"]

Array = NDArray[Any]


@final
class Merged(StreamedArrays):
    """The weights of a base by our names, with adapters added to those that have them.

    What has none stays as it is, in its type; what has becomes float32, or stays float64.

    Parameters
    ----------
    config : TransformerConfig
        Of the base.
    base : mapping of str to ndarray
        Its weights; read when they are asked for.
    adapter : AdapterConfig
    adapters : mapping of str to ndarray
        By our names. A map may have none.
    """

    def __init__(
        self,
        config: TransformerConfig,
        base: Mapping[str, Array],
        adapter: AdapterConfig,
        adapters: Mapping[str, Array],
    ) -> None:
        self._base, self._adapter, self._adapters = base, adapter, adapters
        self._specs = {
            spec.name: spec
            for spec in parameter_specs(config)
            if any(True for _ in self._pairs(spec))
        }

    @property
    def adapted(self) -> tuple[str, ...]:
        """The names of the weights that have adapters."""
        return tuple(self._specs)

    def _pairs(self, spec: ParameterSpec) -> Iterator[tuple[slice, str, str]]:
        """Yield the rows of a matrix, and the names of A and B, of each adapter that it has."""
        for target in self._adapter.targets:
            rows = rows_of(spec, target)
            if rows is not None:
                names = adapter_names(spec.name, target)
                if names[0] in self._adapters:
                    yield rows, *names

    def kind(self, name: str) -> Kind:
        """Return shape and type of an array without making it."""
        shape, dtype = kind_of(self._base, name)
        if name in self._specs and dtype != np.float64:
            dtype = np.dtype(np.float32)
        return shape, dtype

    def __getitem__(self, name: str) -> Array:
        if name not in self._specs:
            return self._base[name]
        out = np.empty(*self.kind(name))
        with np.errstate(over="ignore"):
            for where, values in pieces_of(self._base, name):
                out[where] = ops.widen(values)
        for rows, a, b in self._pairs(self._specs[name]):
            low, high = (ops.widen(self._adapters[n]).astype(np.float64) for n in (a, b))
            out[rows] += self._adapter.scale * (high @ low)
        return out

    def pieces(self, name: str) -> Iterator[Piece]:
        """Yield an array in pieces; one that has adapters is made whole."""
        if name in self._specs:
            yield ..., self[name]
        else:
            yield from pieces_of(self._base, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._base)

    def __len__(self) -> int:
        return len(self._base)


@contextmanager
def merged_in_place(
    config: TransformerConfig, parameters: Parameters, adapter: AdapterConfig
) -> Iterator[None]:
    """Let the weights of a model have its adapters merged into them, each rounded to its type.

    A difference would not give them back, since sums are rounded: their bytes are kept and written
    back, whatever happens meanwhile.

    Parameters
    ----------
    config : TransformerConfig
    parameters : Parameters
        Weights and adapters.
    adapter : AdapterConfig
    """
    arrays = parameters.state()
    merged = Merged(config, arrays, adapter, arrays)
    kept = {name: arrays[name].copy() for name in merged.adapted}
    try:
        for name in kept:
            parameters[name].fill(..., merged[name])
        yield
    finally:
        for name, values in kept.items():
            parameters[name].data[...] = values

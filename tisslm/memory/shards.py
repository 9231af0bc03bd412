"""A part of a model's parameters, laid out like the whole: what one of several ranks updates.

References
----------
S. Rajbhandari and others, "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models",
arXiv 1910.02054, section 5 (stage 1: every rank keeps the optimizer's state of its own part).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.errors import ShapeError
from tisslm.memory.arenas import Arena, ShapeArena
from tisslm.memory.parameters import Parameter, ParameterGroup, Parameters
from tisslm.memory.specs import Decaying

__all__ = ["ParameterShard", "Range", "elements_of"]

Array = NDArray[Any]

#: First element of the flat arrays, and the one behind the last.
Range = tuple[int, int]


@dataclass(frozen=True)
class Piece(Decaying):
    """The elements of a parameter that are in a shard, in order: what an optimizer updates of it.

    Attributes
    ----------
    name : str
        The parameter's.
    data, grad : ndarray of shape (n,)
        Views of the shard's; of the parameter's shape, where parameters are here whole.
    offset : int
        Its first element in the shard's flat arrays.
    decay, lr_scale, weight_decay, trainable, blocks
        As the parameter has them.
    """

    name: str
    data: Array
    grad: Array
    offset: int
    decay: bool
    lr_scale: float
    weight_decay: float | None
    blocks: Mapping[str, slice]
    trainable: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """(n,), whatever the parameter's shape is, unless parameters are here whole."""
        return self.data.shape

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.data.size


class ParameterShard:
    """Ranges of flat parameters, one behind another in arrays of their own.

    An optimizer takes it for the parameters: it has ``data``, ``grad`` and ``groups``, and state
    that is laid out like ``data`` is as small as it is. Iterating yields the ``Piece`` of each
    parameter that is here.

    Parameters
    ----------
    whole : Parameters
    ranges : sequence of (start, stop)
        Of the flat arrays, in ascending order, none overlapping another.
    arena : type
        As for ``Parameters``.
    shaped : bool
        Whether each parameter is here whole or not at all, and has its shape, as an optimizer needs
        that looks at matrices.

    Attributes
    ----------
    data, grad : ndarray of shape (S,)
        Copies. ``grad`` is whatever was written to it last.
    groups : tuple of ParameterGroup
        The groups of the whole, as far as they are here.
    """

    def __init__(
        self,
        whole: Parameters,
        ranges: Sequence[Range],
        *,
        arena: type[Arena] | type[ShapeArena] = Arena,
        shaped: bool = False,
    ) -> None:
        _check(ranges, whole.grad_arena.size)
        self.whole = whole
        self.shaped = shaped
        self.ranges = tuple((start, stop) for start, stop in ranges if stop > start)
        self.dtype = whole.dtype
        sizes = [stop - start for start, stop in self.ranges]
        self._firsts = [0, *np.cumsum(sizes, dtype=np.int64).tolist()]
        count = self._firsts[-1]
        self.data: Array = arena(count * self.dtype.itemsize).take((count,), self.dtype)
        self.grad: Array = arena(count * self.dtype.itemsize).take((count,), self.dtype)
        self.groups = tuple(self._find_groups())
        for p, low, high in self._here() if shaped else ():
            if high - low != p.size:
                raise ShapeError(
                    f"shard: expected all {p.size} elements of {p.name} or none, got {high - low}"
                )

    def _find_groups(self) -> Iterator[ParameterGroup]:
        for group in self.whole.groups:
            low, high = self._within(group.start, group.stop)
            if low < high:
                yield replace(group, start=low, stop=high)

    def _within(self, start: int, stop: int) -> Range:
        """Return where here the elements of a range of the whole are, which lie side by side."""
        return self._place(start), self._place(stop)

    def _place(self, element: int) -> int:
        """Count the elements here that come before one of the whole."""
        for (start, stop), first in zip(self.ranges, self._firsts, strict=False):
            if element < stop:
                return int(first + max(0, element - start))
        return int(self._firsts[-1])

    # ------------------------------------------------------------------ of the whole

    @property
    def updates(self) -> int:
        """Number of optimizer updates made; that of the whole."""
        return self.whole.updates

    @updates.setter
    def updates(self, number: int) -> None:
        self.whole.updates = number

    @property
    def generation(self) -> int:
        """Counts ``zero_grad`` calls; that of the whole."""
        return self.whole.generation

    @property
    def has_memory(self) -> bool:
        """Whether there are values, and not shapes alone."""
        return self.whole.has_memory

    @property
    def count(self) -> int:
        """Number of trainable scalars of the whole, padding left out."""
        return self.whole.count

    def zero_grad(self) -> None:
        """Mark every gradient of the whole as fresh."""
        self.whole.zero_grad()

    def grad_norm(self) -> float:
        """Compute the Euclidean norm of the gradient that is here, in double precision."""
        return ops.global_norm(self.grad)

    def scale_grad(self, scale: float) -> None:
        """Multiply the gradient that is here by ``scale``, rounding to its dtype."""
        ops.scale(self.grad, scale)

    # ------------------------------------------------------------------ to and from the whole

    def pieces(self, flat_S: Array) -> Iterator[tuple[Range, Array]]:
        """Yield each range with its part of an array that is laid out like ``data``."""
        for (start, stop), first in zip(self.ranges, self._firsts, strict=False):
            yield (start, stop), flat_S[..., first : first + stop - start]

    def read(self) -> None:
        """Copy the parameters of the whole that are here into ``data``."""
        for (start, stop), piece in self.pieces(self.data):
            piece[...] = self.whole.data[start:stop]

    def write(self) -> None:
        """Copy ``data`` to where it is in the whole."""
        for (start, stop), piece in self.pieces(self.data):
            self.whole.data[start:stop] = piece

    def by_parameter(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Cut arrays that lie like ``data`` into views named ``<parameter>/<array>``, flat ones.

        A view has the elements of the parameter that are here, in order; a parameter of which
        none are here has none.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            Flat is what has a last axis of S. Others keep their names, and come first.
        """
        found = {n: a for n, a in arrays.items() if a.shape[-1:] != self.data.shape}
        flat = {name: array for name, array in arrays.items() if name not in found}
        for p, low, high in self._here():
            for name, array in flat.items():
                found[f"{p.name}/{name}"] = self._shaped(array[..., low:high], p)
        return found

    def _here(self) -> Iterator[tuple[Parameter, int, int]]:
        """Yield the parameters of which something is here, and where that is in ``data``."""
        for p in self.whole:
            if p.trainable:
                low, high = self._within(p.offset, p.offset + p.size)
                if low < high:
                    yield p, low, high

    def _shaped(self, array: Array, p: Parameter) -> Array:
        return array.reshape(*array.shape[:-1], *p.shape) if self.shaped else array

    def __iter__(self) -> Iterator[Piece]:
        for p, low, high in self._here():
            data, grad = (self._shaped(a[low:high], p) for a in (self.data, self.grad))
            yield Piece(p.name, data, grad, low, p.decay, p.lr_scale, p.weight_decay, p.blocks)

    def elements(self, name: str) -> list[slice]:
        """Return which elements of a parameter, taken flat, are here."""
        return elements_of(self.whole[name], self.ranges)


def elements_of(parameter: Parameter, ranges: Iterable[Range]) -> list[slice]:
    """Return which elements of a parameter, taken flat, are in ranges of the flat arrays."""
    first, last = parameter.offset, parameter.offset + parameter.size
    found = ((max(start, first), min(stop, last)) for start, stop in ranges)
    return [slice(low - first, high - first) for low, high in found if low < high]


def _check(ranges: Iterable[Range], size: int) -> None:
    last = 0
    for start, stop in ranges:
        if not last <= start <= stop <= size:
            raise ShapeError(
                f"shard: expected ascending ranges within {size} elements, got ({start}, {stop}) "
                f"behind {last}"
            )
        last = stop

"""Parameters and their gradients: flat arenas with named views, ordered by group."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.errors import ShapeError
from tisslm.memory.arenas import ALIGNMENT, Arena, ShapeArena
from tisslm.memory.awaited import Awaited, Until
from tisslm.memory.specs import STORED, Decaying, ParameterSpec

__all__ = [
    "Parameter",
    "ParameterGroup",
    "Parameters",
    "grads_to_write",
]

Array = NDArray[Any]


class Parameter(Awaited, Decaying):
    """A named view of the arenas: ``name, shape, size, data, grad``, and how it is trained.

    ``decay``, ``lr_scale``, ``weight_decay`` and ``trainable`` are the specification's, and
    ``blocks`` are the rows of each named block (``ParameterSpec.rows``). Whoever needs ``data``
    asks for it each time: with several ranks, values come back while the next pass goes on, and
    this knows what to wait for. An array that was taken of it is good until the next update.
    """

    def __init__(
        self, spec: ParameterSpec, data: Array, grad: Array | None, owner: Parameters, offset: int
    ) -> None:
        super().__init__(data, offset)
        self.name = spec.name
        self.shape = spec.shape
        self.decay = spec.decay
        self.lr_scale = spec.lr_scale
        self.weight_decay = spec.weight_decay
        self.trainable = spec.trainable
        self.blocks = spec.rows()
        self.size = math.prod(spec.shape)
        self.offset = offset
        self._grad = grad
        self._owner = owner
        self._written = -1

    def __repr__(self) -> str:
        return f"Parameter({self.name!r}, shape={self.shape}, dtype={self._values.dtype})"

    @property
    def grad(self) -> Array:
        """The gradient; zeros if nothing was added since ``zero_grad``."""
        grad, accumulate = self.grad_to_write()
        if not accumulate:
            grad[...] = 0.0
        return grad

    def grad_to_write(self) -> tuple[Array, bool]:
        """Return the gradient and whether to add to it (False: overwrite it all).

        The caller must write every element when the flag is False; from then on the
        gradient counts as written.
        """
        if self._grad is None:
            raise ShapeError(f"{self.name}: a frozen parameter has no gradient")
        accumulate = self._written == self._owner.part
        self._written = self._owner.part
        return self._grad, accumulate

    def fill(self, where: Any, values: Array) -> None:
        """Write ``data[where]``, rounded to the type that is kept.

        Parameters
        ----------
        where : index
        values : ndarray of float32, float64, float16, or uint16 with the bits of bfloat16
            Beyond the range of the type is infinity.
        """
        data = self.data
        if data.dtype == np.uint16 and values.dtype != np.uint16:
            part = np.empty(np.shape(values), np.uint16)
            ops.store(part, ops.widen(values))
            data[where] = part
        else:
            with np.errstate(over="ignore"):
                data[where] = values if values.dtype == data.dtype else ops.widen(values)


def grads_to_write(
    weight: Parameter, bias: Parameter | None
) -> tuple[Array | None, Array | None, bool]:
    """Return the gradients of two parameters that one kernel writes, and whether to add to them.

    A gradient is None where there is none: of a frozen parameter, and of one that is left out. If
    only one was written since ``zero_grad``, the other is set to zero, so that one flag is right
    for both.
    """
    dw, add_w = weight.grad_to_write() if weight.trainable else (None, False)
    db, add_b = (None, False) if bias is None or not bias.trainable else bias.grad_to_write()
    if dw is not None and db is not None and add_w != add_b:
        (db if add_w else dw)[...] = 0.0
    return dw, db, add_w or add_b


def _order(spec: ParameterSpec) -> tuple[bool, float, float]:
    """Return what trainable parameters are ordered by, so that those trained alike lie together."""
    own = -1.0 if spec.weight_decay is None else spec.weight_decay
    return not spec.decay, spec.lr_scale, own


@dataclass(frozen=True)
class ParameterGroup(Decaying):
    """A contiguous part of the flat arenas whose parameters are trained alike.

    Attributes
    ----------
    start, stop : int
    decay : bool
        Whether the optimizer's weight decay applies, where the group has none of its own.
    lr_scale : float
        Factor on the learning rate.
    weight_decay : float or None
        The group's own.
    """

    start: int
    stop: int
    decay: bool
    lr_scale: float
    weight_decay: float | None = None

    @property
    def slice(self) -> slice:
        """The part as an index of the flat arrays."""
        return slice(self.start, self.stop)


class Parameters(Awaited):
    """All parameters of a model: flat data and gradient, with views by name.

    Parameters
    ----------
    specs : iterable of ParameterSpec
        Trainable ones are ordered by (decay, lr_scale, weight_decay), then as given; each starts
        on a 64-byte boundary, and the padding between them is always zero.
    dtype : {float32, float64}
        Of all but those that are stored in two bytes, whose arrays are of uint16.
    arena : type
        Where the flat arrays are allocated; with ``ShapeArena`` they have shapes and no memory, as
        plans need.
    gradients_at_once : bool
        Whether the gradient's memory is taken now, as for a run, or by the first backward: what
        only loads a model and writes text with it never needs it.

    Attributes
    ----------
    data, grad : ndarray of shape (P,)
        The trainable arena and its gradient, padding included.
    data_arena, grad_arena : ndarray of shape (P,)
        Their memory, whatever is in it: for those who bring values, and nobody who reads them.
    groups : tuple of ParameterGroup
    updates : int
        Number of optimizer updates made; part of the key of every random draw.
    generation : int
        Counts ``zero_grad`` calls.
    part : int
        Counts ``zero_grad`` and ``fresh_part`` calls; a gradient that is older counts as zero.
    """

    def __init__(
        self,
        specs: Iterable[ParameterSpec],
        dtype: Any = np.float32,
        *,
        arena: type[Arena] | type[ShapeArena] = Arena,
        gradients_at_once: bool = True,
    ) -> None:
        self.dtype = np.dtype(dtype)
        self._arena = arena
        self.updates = 0
        self.generation = 0
        self.part = 0
        specs = list(specs)
        trainable = [s for s in specs if s.trainable]
        trainable.sort(key=_order)
        frozen = [s for s in specs if not s.trainable]
        self.data_arena = self._new_flat(trainable)
        self.grad_arena = self._new_flat(trainable, at_once=gradients_at_once)
        kept = [s for s in frozen if not s.stored]
        stored = [s for s in frozen if s.stored]
        self.frozen_data = self._new_flat(kept)
        self.stored_data = self._new_flat(stored, dtype=STORED)
        super().__init__(self.data_arena, 0)
        views = dict(self._cut(trainable, self.data_arena, self.grad_arena))
        views.update(self._cut(kept, self.frozen_data, None))
        views.update(self._cut(stored, self.stored_data, None))
        if len(views) != len(specs):
            raise ShapeError("parameters: two parameters have the same name")
        self._views = {s.name: views[s.name] for s in specs}
        self.groups = self._find_groups(trainable)
        self._norm_parts: Array | None = None
        self._complete = -1  # the part in which every gradient was written last

    def _padded(self, spec: ParameterSpec) -> int:
        lane = ALIGNMENT // (STORED if spec.stored else self.dtype).itemsize
        return int(-(-math.prod(spec.shape) // lane) * lane)

    def _new_flat(
        self,
        specs: list[ParameterSpec],
        *,
        at_once: bool = True,
        dtype: np.dtype[Any] | None = None,
    ) -> Array:
        dtype = self.dtype if dtype is None else dtype
        count = sum(self._padded(s) for s in specs)
        arena = self._arena(count * dtype.itemsize, at_once=at_once)
        return arena.take((count,), dtype)

    def _cut(
        self, specs: list[ParameterSpec], data: Array, grad: Array | None
    ) -> Iterator[tuple[str, Parameter]]:
        offset = 0
        for spec in specs:
            part = slice(offset, offset + math.prod(spec.shape))
            view = None if grad is None else grad[part].reshape(spec.shape)
            yield spec.name, Parameter(spec, data[part].reshape(spec.shape), view, self, offset)
            offset += self._padded(spec)

    def _find_groups(self, specs: list[ParameterSpec]) -> tuple[ParameterGroup, ...]:
        groups: list[ParameterGroup] = []
        offset = 0
        for spec in specs:
            stop = offset + self._padded(spec)
            kind = spec.decay, spec.lr_scale, spec.weight_decay
            last = groups[-1] if groups else None
            if last and (last.decay, last.lr_scale, last.weight_decay) == kind:
                groups[-1] = replace(last, stop=stop)
            else:
                groups.append(ParameterGroup(offset, stop, *kind))
            offset = stop
        return tuple(groups)

    def __getitem__(self, name: str) -> Parameter:
        try:
            return self._views[name]
        except KeyError:
            raise ShapeError(
                f"parameters: no parameter {name!r}; known: {', '.join(self._views)}"
            ) from None

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self._views.values())

    def __len__(self) -> int:
        return len(self._views)

    def get(self, name: str) -> Parameter | None:
        """Return a parameter by name, or None if there is none of this name."""
        return self._views.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self._views

    @property
    def count(self) -> int:
        """The number of trainable scalars, without padding."""
        return sum(p.size for p in self if p.trainable)

    @property
    def grad(self) -> Array:
        """The flat gradient, with zeros where nothing was added since ``zero_grad``."""
        if self._complete != self.part:  # an update reads it three times
            for parameter in self:
                if parameter.trainable:
                    parameter.grad  # noqa: B018  (reading it writes the zeros)
            self._complete = self.part
        return self.grad_arena

    @property
    def has_memory(self) -> bool:
        """True if there are values, and not shapes alone."""
        return self._arena is Arena

    def withhold(self, until: Until) -> None:
        """Hand out no trainable values from here on before they are there, whoever asks.

        Parameters
        ----------
        until : callable
        """
        super().withhold(until)
        for p in self:
            if p.trainable:
                p.withhold(until)

    def grad_norm(self) -> float:
        """Compute the Euclidean norm of the flat gradient, in double precision."""
        if self._norm_parts is None:
            self._norm_parts = ops.norm_parts(self.grad_arena)
        return ops.global_norm(self.grad, self._norm_parts)

    def zero_grad(self) -> None:
        """Mark all gradients as zero, in constant time."""
        self.generation += 1
        self.part += 1

    def fresh_part(self) -> None:
        """Mark every gradient as fresh, for the next part of the same update."""
        self.part += 1

    def scale_grad(self, scale: float) -> None:
        """Multiply the flat gradient by ``scale``, rounding to the gradient's dtype."""
        ops.scale(self.grad, scale)

    def state(self) -> dict[str, Array]:
        """Return every parameter's data by name (views, not copies)."""
        return {p.name: p.data for p in self}

    def by_parameter(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Cut arrays with the layout of ``data`` into views named ``<parameter>/<array>``.

        Padding is left out: its length depends on the type, so flat arrays of two types differ in
        length and have the same views.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            Arrays whose last axis has length P are cut. Others keep their names, and come first.
        """
        found = {n: a for n, a in arrays.items() if a.shape[-1:] != self.data_arena.shape}
        flat = {name: array for name, array in arrays.items() if name not in found}
        for p in self:
            if p.trainable:
                part = slice(p.offset, p.offset + p.size)
                for name, array in flat.items():
                    cut = array[..., part].reshape(*array.shape[:-1], *p.shape)
                    found[f"{p.name}/{name}"] = cut
        return found

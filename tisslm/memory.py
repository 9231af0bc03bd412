"""Memory that is laid out before the first step: arenas, parameters, and the workspace.

An arena is one private anonymous map, aligned to 2 MiB, advised to use huge pages and touched
first by the threads that will work on it. Parameters and their gradients are flat arenas with
named views; a workspace holds the activations and scratch that the layers' plans ask for.

What does not live here: anything that computes, and any decision about what is stored.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.errors import ShapeError

__all__ = [
    "Arena",
    "Parameter",
    "ParameterGroup",
    "ParameterSpec",
    "Parameters",
    "Workspace",
    "grads_to_write",
]

ALIGNMENT = 64  # bytes: one cache line, and one AVX-512 register
HUGE_PAGE = 2 * 2**20

Array = NDArray[Any]


def aligned(nbytes: int) -> int:
    """Round up to a whole number of cache lines."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


class Arena:
    """A zeroed block of memory from which arrays are cut in order.

    Parameters
    ----------
    nbytes : int
        Capacity. The map is private (a shared one gets no huge pages), so memory is taken by
        the first touch, which happens here, in parallel.
    """

    def __init__(self, nbytes: int) -> None:
        self.nbytes = aligned(max(nbytes, ALIGNMENT))
        self._map = mmap.mmap(
            -1, self.nbytes + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        )
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # a kernel built without huge pages refuses
                self._map.madvise(mmap.MADV_HUGEPAGE)
        block = np.frombuffer(self._map, dtype=np.uint8)
        start = -block.ctypes.data % HUGE_PAGE
        self._block = block[start : start + self.nbytes]
        self._used = 0
        ops.fill(self._block.view(np.float32), 0.0)

    def take(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Cut the next array, 64-byte aligned; its contents are zero."""
        nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        start, end = self._used, self._used + nbytes
        if end > self.nbytes:
            raise ShapeError(f"arena: {nbytes} bytes wanted, {self.nbytes - start} left")
        self._used = aligned(end)
        array: Array = self._block[start:end].view(dtype).reshape(shape)
        return array


# --------------------------------------------------------------------------- parameters


@dataclass(frozen=True)
class ParameterSpec:
    """A parameter before it has memory.

    Attributes
    ----------
    name : str
        Dotted, such as ``blocks.0.mlp.up.weight``.
    shape : tuple of int
    decay : bool
        Whether weight decay applies: to matrices, not to biases and norms.
    lr_scale : float
        Multiplies the learning rate for this parameter.
    trainable : bool
        A frozen parameter has data but no gradient.
    """

    name: str
    shape: tuple[int, ...]
    decay: bool = True
    lr_scale: float = 1.0
    trainable: bool = True


class Parameter:
    """A named view of the arenas: ``name, shape, data, grad, decay, lr_scale``."""

    def __init__(
        self, spec: ParameterSpec, data: Array, grad: Array | None, owner: Parameters, offset: int
    ) -> None:
        self.name = spec.name
        self.shape = spec.shape
        self.decay = spec.decay
        self.lr_scale = spec.lr_scale
        self.trainable = spec.trainable
        self.data = data
        self.offset = offset
        self._grad = grad
        self._owner = owner
        self._written = -1

    def __repr__(self) -> str:
        return f"Parameter({self.name!r}, shape={self.shape}, dtype={self.data.dtype})"

    @property
    def grad(self) -> Array:
        """The gradient; zeros where nothing was added since ``zero_grad``."""
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
        accumulate = self._written == self._owner.generation
        self._written = self._owner.generation
        return self._grad, accumulate


def grads_to_write(weight: Parameter, bias: Parameter | None) -> tuple[Array, Array | None, bool]:
    """Return the gradients of two parameters that one kernel writes, and whether it adds to both.

    Where only one was written since ``zero_grad``, the other is zeroed, so that one flag is right
    for both.
    """
    dw, add_w = weight.grad_to_write()
    if bias is None:
        return dw, None, add_w
    db, add_b = bias.grad_to_write()
    if add_w != add_b:
        (db if add_w else dw)[...] = 0.0
    return dw, db, add_w or add_b


@dataclass(frozen=True)
class ParameterGroup:
    """A contiguous run of the flat arenas whose parameters share decay and lr_scale."""

    start: int
    stop: int
    decay: bool
    lr_scale: float

    @property
    def slice(self) -> slice:
        """The run as an index of the flat arrays."""
        return slice(self.start, self.stop)


class Parameters:
    """All parameters of a model: flat data and gradient, with views by name.

    Parameters
    ----------
    specs : iterable of ParameterSpec
        Trainable ones are ordered by (decay, lr_scale), then as given; each starts on a
        64-byte boundary, and the padding between them is always zero.
    dtype : {float32, float64}

    Attributes
    ----------
    data, grad : ndarray of shape (P,)
        The trainable arena and its gradient, padding included.
    groups : tuple of ParameterGroup
    updates : int
        Number of optimizer updates made; part of the key of every random draw.
    generation : int
        Counts ``zero_grad`` calls; a parameter whose gradient is older counts as zero.
    """

    def __init__(self, specs: Iterable[ParameterSpec], dtype: Any = np.float32) -> None:
        self.dtype = np.dtype(dtype)
        self.updates = 0
        self.generation = 0
        specs = list(specs)
        trainable = [s for s in specs if s.trainable]
        trainable.sort(key=lambda s: (not s.decay, s.lr_scale))
        frozen = [s for s in specs if not s.trainable]
        self.data = self._new_flat(trainable)
        self.grad_arena = self._new_flat(trainable)
        self.frozen_data = self._new_flat(frozen)
        views = dict(self._cut(trainable, self.data, self.grad_arena))
        views.update(self._cut(frozen, self.frozen_data, None))
        if len(views) != len(specs):
            raise ShapeError("parameters: two parameters have the same name")
        self._views = {s.name: views[s.name] for s in specs}
        self.groups = self._find_groups(trainable)

    def _padded(self, spec: ParameterSpec) -> int:
        lane = ALIGNMENT // self.dtype.itemsize
        return int(-(-int(np.prod(spec.shape, dtype=np.int64)) // lane) * lane)

    def _new_flat(self, specs: list[ParameterSpec]) -> Array:
        count = sum(self._padded(s) for s in specs)
        return Arena(count * self.dtype.itemsize).take((count,), self.dtype)

    def _cut(
        self, specs: list[ParameterSpec], data: Array, grad: Array | None
    ) -> Iterator[tuple[str, Parameter]]:
        offset = 0
        for spec in specs:
            part = slice(offset, offset + int(np.prod(spec.shape, dtype=np.int64)))
            view = None if grad is None else grad[part].reshape(spec.shape)
            yield spec.name, Parameter(spec, data[part].reshape(spec.shape), view, self, offset)
            offset += self._padded(spec)

    def _find_groups(self, specs: list[ParameterSpec]) -> tuple[ParameterGroup, ...]:
        groups: list[ParameterGroup] = []
        offset = 0
        for spec in specs:
            stop = offset + self._padded(spec)
            last = groups[-1] if groups else None
            if last and (last.decay, last.lr_scale) == (spec.decay, spec.lr_scale):
                groups[-1] = ParameterGroup(last.start, stop, last.decay, last.lr_scale)
            else:
                groups.append(ParameterGroup(offset, stop, spec.decay, spec.lr_scale))
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

    def __contains__(self, name: object) -> bool:
        return name in self._views

    @property
    def count(self) -> int:
        """Number of trainable scalars, padding left out."""
        return sum(int(p.data.size) for p in self if p.trainable)

    @property
    def grad(self) -> Array:
        """The flat gradient, with zeros where nothing was added since ``zero_grad``."""
        for parameter in self:
            if parameter.trainable:
                parameter.grad  # noqa: B018  (reading it writes the zeros)
        return self.grad_arena

    def zero_grad(self) -> None:
        """Mark every gradient as fresh, in constant time."""
        self.generation += 1

    def scale_grad(self, scale: float) -> None:
        """Multiply the flat gradient by ``scale``, rounding to the gradient's dtype."""
        ops.scale(self.grad, scale)

    def state(self) -> dict[str, Array]:
        """Return every parameter's data by name (views, not copies)."""
        return {p.name: p.data for p in self}


# --------------------------------------------------------------------------- workspace


class Workspace:
    """Buffers for activations and scratch, made once for the largest pass, viewed by smaller ones.

    Parameters
    ----------
    sizes : mapping of str to int
        Bytes by buffer name.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes = dict(sizes)
        arena = Arena(sum(aligned(n) for n in self.sizes.values()))
        self._blocks = {name: arena.take((n,), np.uint8) for name, n in self.sizes.items()}

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers."""
        return sum(self.sizes.values())

    def fits(self, sizes: Mapping[str, int]) -> bool:
        """Tell whether buffers of these sizes can be viewed in this workspace."""
        return all(self.sizes.get(name, -1) >= n for name, n in sizes.items())

    def view(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return the front of a buffer as an array of this shape and type."""
        nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        array: Array = self._blocks[name][:nbytes].view(dtype).reshape(shape)
        return array

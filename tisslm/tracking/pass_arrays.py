"""What monitors are shown of a forward pass: which arrays, under which names, and as which views.

    activations  <place>                  the residual stream after a part, of shape (rows, C)
                 <attention>.q .k .v      queries, keys and values
                 <attention>.heads        what the heads give, before the output projection
                 <mlp>.pre                the pre-activation; of a gated MLP, the gate's
                 <mlp>.up                 what the gate of a gated MLP multiplies
                 final_norm               the normalized stream, of which the logits are made
    attention    <attention>.entropy      of each query's probabilities, of shape (B, H, T)

Activations come some rows at a time, at most 2^20 numbers: what is stored in two bytes, or lies
between other numbers, is moved to floats in a buffer that stays in a cache. No monitor needs all
rows at once, since the micro-batches of an update are shown one after another anyway.

What does not live here: gradients, weights and updates, and whom anything is shown to
(``monitoring``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Network
from tisslm.memory.arenas import Arena, array_bytes

__all__ = ["PIECE", "Room", "Sites", "planned_room"]

Array = NDArray[Any]

#: Numbers that are shown at a time, at most, unless one row has more.
PIECE = 2**20


class Room:
    """Memory for views that are made anew at each look, kept from one look to the next.

    Parameters
    ----------
    sizes : mapping of str to int
        Bytes by name, taken now. A name that is not here, or needs more, takes it when it does.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._blocks = {name: self._block(nbytes) for name, nbytes in sizes.items()}

    @staticmethod
    def _block(nbytes: int) -> Array:
        return Arena(nbytes).take((nbytes,), np.uint8)

    def take(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return an array with any contents; it is good until the next call with this name."""
        nbytes = array_bytes(shape, dtype)
        block = self._blocks.get(name)
        if block is None or len(block) < nbytes:
            block = self._blocks[name] = self._block(nbytes)
        array: Array = block[:nbytes].view(dtype).reshape(shape)
        return array


def planned_room(
    wants: Collection[str], model: Network, batch: int, time: int, precision: str
) -> dict[str, int]:
    """Return the bytes that monitors of these wants take, by the names that ``Room`` is asked for.

    Parameters
    ----------
    wants : collection of str
        The kinds of arrays that the monitors of a run want.
    model : Network
    batch, time : int
        B and T of a micro-batch.
    precision : {"fp32", "bf16", "fp16"}
    """
    parameters, sizes = model.parameters, {}
    itemsize = parameters.dtype.itemsize
    if "activations" in wants:
        sizes["rows"] = PIECE * itemsize
    if "attention" in wants:
        sizes["entropy"] = batch * model.n_head * time * itemsize
    if "updates" in wants:
        sizes["updates"] = parameters.data.nbytes
    if "gradients" in wants and precision == "fp16":
        sizes["gradients"] = max((p.data.nbytes for p in parameters if p.trainable), default=0)
    return {name: nbytes for name, nbytes in sizes.items() if nbytes}


class Sites:
    """Turn what a part of a pass has left into arrays of floats, and show them.

    Parameters
    ----------
    room : Room
    show : callable
        Called with a kind of ``Monitor.wants``, a site and an array that holds for the call.
    attention_scale : float, optional
        That of the model (``Network.attention_scale``).
    """

    def __init__(
        self,
        room: Room,
        show: Callable[[str, str, Array], None],
        attention_scale: float | None = None,
    ) -> None:
        self._room = room
        self._show = show
        self._attention_scale = attention_scale

    def look(
        self,
        wants: Collection[str],
        place: str,
        arrays: Mapping[str, Array],
        start_BT: Array | None = None,
    ) -> None:
        """Show what there is of these kinds at a place, after its forward.

        Parameters
        ----------
        wants : collection of str
        place : str
        arrays : mapping of str to ndarray
            The arguments of ``PassObserver.leave``.
        start_BT : ndarray of int32 of shape (B, T), optional
            The column in which the document of each token begins.
        """
        if "activations" in wants:
            for site, x_NW in _activations(place, arrays):
                self._show_rows(site, x_NW)
        if "attention" in wants and "qkv" in arrays and "lse" in arrays:
            self._show(
                "attention",
                f"{place}.entropy",
                self._entropy(arrays, arrays.get("first", start_BT)),
            )

    def _show_rows(self, site: str, x_NW: Array) -> None:
        rows = max(1, PIECE // x_NW.shape[1])
        for first in range(0, len(x_NW), rows):
            self._show("activations", site, self._floats(x_NW[first : first + rows]))

    def _floats(self, x_NW: Array) -> Array:
        """Return an array in one piece of float32 or float64: itself, or a copy in the room."""
        wide = x_NW.dtype.itemsize > 2
        if wide and x_NW.flags.c_contiguous:
            return x_NW
        found = self._room.take("rows", x_NW.shape, x_NW.dtype if wide else np.float32)
        if x_NW.dtype == np.uint16:  # the bits of bfloat16 are the upper half of a float's
            np.left_shift(x_NW, np.uint32(16), out=found.view(np.uint32))
        else:
            np.copyto(found, x_NW)
        return found

    def _entropy(self, arrays: Mapping[str, Array], start_BT: Array | None) -> Array:
        stop_BT = arrays.get("stop")
        qkv, lse = arrays["qkv"], arrays["lse"]
        n_head, n_kv_head, size = _heads(arrays)
        entropy = self._room.take("entropy", lse.shape, lse.dtype)
        scale = self._attention_scale or 1.0 / math.sqrt(size)
        ops.attention_entropy(qkv, lse, entropy, n_head, n_kv_head, scale, start_BT, stop_BT)
        return entropy


def _heads(arrays: Mapping[str, Array]) -> tuple[int, int, int]:
    """Return H, K and D, from the shapes of what attention keeps."""
    n_head = arrays["lse"].shape[1]
    size = arrays["heads"].shape[2] // n_head
    return n_head, (arrays["qkv"].shape[2] // size - n_head) // 2, size


def _activations(place: str, arrays: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    """Yield the sites of a place, each as rows of channels."""
    if "stream" not in arrays:  # a chunk of the head, whose input was shown as that of final_norm
        return
    yield place, arrays["hidden" if "hidden" in arrays else "stream"]
    if "qkv" in arrays and "lse" in arrays:
        n_head, n_kv_head, size = _heads(arrays)
        qkv_NE = arrays["qkv"].reshape(-1, arrays["qkv"].shape[2])
        edges = (0, n_head * size, (n_head + n_kv_head) * size, qkv_NE.shape[1])
        for name, first, last in zip("qkv", edges, edges[1:], strict=False):
            yield f"{place}.{name}", qkv_NE[:, first:last]
    for name in ("heads", "pre", "up"):
        if name in arrays:
            yield f"{place}.{name}", arrays[name].reshape(-1, arrays[name].shape[-1])

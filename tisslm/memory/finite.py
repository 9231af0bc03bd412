"""Finding NaN and infinities in arrays, without copying any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.errors import NonFiniteError

__all__ = [
    "Spot",
    "check_finite",
    "find_non_finite",
    "first_non_finite",
]

Array = NDArray[Any]


def first_non_finite(arrays: Mapping[str, Array]) -> str | None:
    """Return the name of the first array that has a NaN or an infinity, None if none has.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Arrays of a type other than float count as finite.
    """
    for name in arrays:
        array = arrays[name]
        # Both propagate NaN, and neither makes an array of the size of this one.
        if array.size and array.dtype.kind == "f":
            low, high = array.min(), array.max()
            if not (np.isfinite(low) and np.isfinite(high)):
                return name
    return None


def check_finite(arrays: Mapping[str, Array], called: str, where: str) -> None:
    """Raise an error if an array that is to be saved has a NaN or an infinity.

    Parameters
    ----------
    arrays : mapping of str to ndarray
    called : str
        What the message calls one of them, before its name: "parameter".
    where : str
        The file that would be written; the message begins with it.

    Raises
    ------
    NonFiniteError
        If a number is not finite.
    """
    name = first_non_finite(arrays)
    if name is not None:
        raise NonFiniteError(
            f"{where}: {called} {name} is not finite any more, so nothing was saved, and the "
            "checkpoints before are as they were. Go on from the last of them with a lower "
            "training.learning_rate or a smaller training.max_grad_norm"
        )


#: Elements that are processed at a time: they and intermediate results stay in a cache.
BLOCK = 2**16
#: The exponent of bfloat16, all ones in NaN and the infinities alone.
_EXPONENT = np.uint16(0x7F80)


@dataclass(frozen=True)
class Spot:
    """The first element of an array that is not finite.

    Attributes
    ----------
    index : tuple of int
        The index of the first such element, in the order of memory.
    value : float
        Its value, NaN or an infinity.
    count, size : int
        How many elements are not finite, and how many there are.
    """

    index: tuple[int, ...]
    value: float
    count: int
    size: int


def find_non_finite(array: Array) -> Spot | None:
    """Return the first element that is NaN or infinite, None if there is none.

    Parameters
    ----------
    array : ndarray of any shape
        Its type is a float, or uint16 with the bits of bfloat16; any other array is finite.
    """
    if array.dtype.kind != "f" and array.dtype != np.uint16:
        return None
    flat, first, count = array.reshape(-1), -1, 0
    for start in range(0, flat.size, BLOCK):
        bad = _is_bad(flat[start : start + BLOCK])
        found = int(np.count_nonzero(bad))
        if found and first < 0:
            first = start + int(np.argmax(bad))
        count += found
    if first < 0:
        return None
    index = tuple(int(i) for i in np.unravel_index(first, array.shape))
    from tisslm import ops  # no kernel is loaded before there is something to tell

    value = float(ops.widen(flat[first : first + 1])[0])
    return Spot(index, value, count, array.size)


def _is_bad(block: Array) -> Array:
    if block.dtype == np.uint16:
        special: Array = (block & _EXPONENT) == _EXPONENT
        return special
    finite: Array = np.isfinite(block)
    np.logical_not(finite, out=finite)
    return finite

"""Whether arrays hold finite numbers only, without a copy of any.

What does not live here: what is done where they do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.errors import NonFiniteError

__all__ = ["check_finite", "first_non_finite"]

Array = NDArray[Any]


def first_non_finite(arrays: Mapping[str, Array]) -> str | None:
    """Return the name of the first array that has a NaN or an infinity, None if none has.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Those that are not of a float type are finite.
    """
    for name in arrays:
        array = arrays[name]
        # Both propagate NaN, and neither makes an array of the size of this one.
        if array.size and array.dtype.kind == "f":
            low, high = array.min(), array.max()
            if not (np.isfinite(low) and np.isfinite(high)):
                return name
    return None


def check_finite(parameters: Mapping[str, Array], slots: Mapping[str, Array], where: str) -> None:
    """Refuse what must never be saved.

    Parameters
    ----------
    parameters : mapping of str to ndarray
    slots : mapping of str to ndarray
        The optimizer's state. Arrays that belong to a parameter (``<parameter>/<slot>``) must be
        finite; what others mean, the optimizer knows.
    where : str
        What would be written; the message begins with it.

    Raises
    ------
    NonFiniteError
        If a number is not finite.
    """
    name = first_non_finite(parameters)
    what = f"parameter {name}"
    if name is None:
        name = first_non_finite({slot: slots[slot] for slot in slots if "/" in slot})
        what = f"the optimizer's {name}"
    if name is not None:
        raise NonFiniteError(
            f"{where}: {what} is not finite any more, so nothing was saved, and the checkpoints "
            "before are as they were. Go on from the last of them with a lower "
            "training.learning_rate or a smaller training.max_grad_norm"
        )

"""Whether two datasets gave the same."""

from __future__ import annotations

import numpy as np

from tisslm.contracts import Rows


def equal_rows(one: Rows, other: Rows) -> bool:
    """Tell whether two records have arrays of the same names, shapes and values."""
    ours, theirs = one.arrays, other.arrays
    return ours.keys() == theirs.keys() and all(
        np.array_equal(array, theirs[name]) for name, array in ours.items()
    )

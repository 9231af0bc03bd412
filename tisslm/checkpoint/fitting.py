"""Whether a checkpoint fits the run that wants to go on from it.

What does not live here: whether its files are what was written (``verification``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from tisslm.errors import CheckpointError
from tisslm.system.tensor_files import kind_of

__all__ = ["check_parameters"]

Array = NDArray[Any]


def check_parameters(target: Mapping[str, Array], source: Mapping[str, Array], where: str) -> None:
    """Check that arrays of a checkpoint have the names, shapes and types of the model's.

    Raises
    ------
    CheckpointError
        If any differs.
    """
    missing = sorted(set(target) - set(source))
    unexpected = sorted(set(source) - set(target))
    if missing or unexpected:
        raise CheckpointError(
            f"{where}: made for another model: it lacks {missing[:3] or 'nothing'} and has "
            f"{unexpected[:3] or 'nothing'} besides. Use the configuration it was made with"
        )
    for name, array in target.items():
        shape, dtype = kind_of(source, name)
        if shape != array.shape or dtype != array.dtype:
            raise CheckpointError(
                f"{where}: parameter {name}: expected shape {array.shape} {array.dtype}, got "
                f"{shape} {dtype}. Use the configuration that the checkpoint was made with"
            )

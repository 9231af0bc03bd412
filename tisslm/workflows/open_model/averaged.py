"""The average of a run's weights in place of them, as a checkpoint has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tisslm.checkpoint import EMA, Checkpoint
from tisslm.errors import CheckpointError
from tisslm.optim.weight_average import SLOT
from tisslm.system.tensor_files import Kind, StreamedArrays, kind_of

__all__ = ["Averaged", "averages_of"]

Array = NDArray[Any]


class Averaged(StreamedArrays):
    """Parameters by our names: averages where there are any, and the weights elsewhere.

    What is frozen has none.

    Parameters
    ----------
    weights : mapping of str to ndarray
    averages : mapping of str to ndarray
        Named ``<parameter>/average``.
    """

    def __init__(self, weights: Mapping[str, Array], averages: Mapping[str, Array]) -> None:
        self._weights, self._averages = weights, averages

    def _find(self, name: str) -> tuple[Mapping[str, Array], str]:
        average = f"{name}/{SLOT}"
        return (self._averages, average) if average in self._averages else (self._weights, name)

    def kind(self, name: str) -> Kind:
        """Return shape and type of one."""
        if name not in self._weights:
            raise KeyError(name)
        return kind_of(*self._find(name))

    def __getitem__(self, name: str) -> Array:
        arrays, found = self._find(name)
        return arrays[found]

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def averages_of(found: Checkpoint, where: Path) -> Mapping[str, Array]:
    """Return the averages of a checkpoint of which they were read.

    Raises
    ------
    CheckpointError
        If it has none.
    """
    if EMA not in found.files:
        raise CheckpointError(
            f"{where}: expected averaged weights ({EMA.name}), got none: its run has no section "
            "[ema]; leave --ema out"
        )
    return found[EMA]

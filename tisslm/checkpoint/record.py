"""The contents of a checkpoint in memory: what its files hold, and the metrics of its step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from numpy.typing import NDArray

from tisslm.checkpoint.files import ArraysFile, File
from tisslm.contracts import Exchange
from tisslm.system.tensor_files import kind_of

__all__ = ["Checkpoint"]

T = TypeVar("T")


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint: everything that is needed to resume a run.

    The arrays may be views of the run's own, or copies that a thread writes later.

    Attributes
    ----------
    files : mapping of File
        The content of each file: arrays by name, or plain JSON values. ``checkpoint[MODEL]`` is
        that of the file ``MODEL``.
    metrics : mapping of str to float
        Values measured at this step, such as "eval/loss", by which the best are kept. Those that
        are not finite are not written.
    exchange : Exchange or None
        What the model is called outside, and on the disk (``model_files``); here names are ours.
        None if it is known nowhere else.
    """

    files: Mapping[File[Any], Any]
    metrics: Mapping[str, float] = field(default_factory=dict)
    exchange: Exchange | None = None

    def __getitem__(self, file: File[T]) -> T:
        content: T = self.files[file]
        return content

    def arrays(self) -> Iterator[tuple[ArraysFile, Mapping[str, NDArray[Any]]]]:
        """Yield each file of arrays with its content."""
        for file, content in self.files.items():
            if isinstance(file, ArraysFile):
                yield file, content

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        kinds = (kind_of(arrays, name) for _, arrays in self.arrays() for name in arrays)
        return sum(math.prod(shape) * dtype.itemsize for shape, dtype in kinds)

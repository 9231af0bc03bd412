"""What a checkpoint holds: the contents of its files, and what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from numpy.typing import NDArray

from tisslm.checkpoint.files import ArraysFile, File
from tisslm.system.tensor_files import kind_of

__all__ = ["Checkpoint"]

T = TypeVar("T")


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a run needs to go on.

    The arrays may be views of the run's own, or copies that a thread writes later.

    Attributes
    ----------
    files : mapping of File
        Contents: arrays by name, or plain JSON values. ``checkpoint[MODEL]`` is one of them.
    metrics : mapping of str to float
        What was measured at this step, such as "eval/loss", by which the best are kept. A value
        that is not finite is left out when it is written.
    """

    files: Mapping[File[Any], Any]
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __getitem__(self, file: File[T]) -> T:
        content: T = self.files[file]
        return content

    def arrays(self) -> Iterator[tuple[ArraysFile, Mapping[str, NDArray[Any]]]]:
        """Yield the files of arrays with their contents."""
        for file, content in self.files.items():
            if isinstance(file, ArraysFile):
                yield file, content

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        kinds = (kind_of(arrays, name) for _, arrays in self.arrays() for name in arrays)
        return sum(math.prod(shape) * dtype.itemsize for shape, dtype in kinds)

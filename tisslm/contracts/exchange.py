"""What a model is called outside: the names of its arrays, and its configuration there.

Inside, parameters have the house's own names, whatever their family. Names of others are at the
border only: a model that others can read says so by ``Model.exchange``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

__all__ = ["OWN", "AdapterExchange", "Exchange"]

Array = NDArray[Any]

#: The key of ``config.json`` that has our own settings, which say more than theirs can.
OWN = "tisslm"


class Exchange(ABC):
    """A model as a folder of Hugging Face transformers has it, and the way back.

    Both ways are exact: ``inward`` of ``outward`` has the bits that there were. Arrays are
    streamed, each made when it is asked for (``tisslm.system.tensor_files.StreamedArrays``).
    """

    @property
    @abstractmethod
    def config(self) -> Mapping[str, Any]:
        """The content of ``config.json``, plain values: architecture, shape, and what is ours."""

    @abstractmethod
    def outward(self, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return parameters, given by our names, by the names there; views where these will do."""

    @abstractmethod
    def inward(self, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return arrays, given by the names there, by our names.

        Raises
        ------
        CheckpointError
            If one is missing, superfluous, or of another shape.
        """


class AdapterExchange(ABC):
    """The adapters of a model, which a checkpoint has in place of the whole, and the way back."""

    @property
    @abstractmethod
    def base(self) -> Mapping[str, Any]:
        """What adapters they are, and of which model: the content of ``base.json``."""

    @property
    @abstractmethod
    def config(self) -> Mapping[str, Any] | None:
        """The content of PEFT's ``adapter_config.json``; None if it has no such adapters."""

    @abstractmethod
    def outward(self, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return the adapters among parameters, by the names in their file."""

    @abstractmethod
    def inward(self, arrays: Mapping[str, Array], where: Path) -> Mapping[str, Array]:
        """Return adapters, given by the names in their file, by our names.

        Raises
        ------
        CheckpointError
            If one is missing, superfluous, or of another shape or type.
        """

    @abstractmethod
    def check(self, base: Mapping[str, Any], where: Path) -> None:
        """Compare a saved ``base`` with this one.

        Raises
        ------
        CheckpointError
            If the adapters are others, or were trained beside another model.
        """

"""What owns files of a checkpoint: the base of all owners, and the parts of a run that they see.

The owners themselves are in ``owners``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tisslm.checkpoint import Checkpoint, File
from tisslm.memory import Parameters
from tisslm.registry import Registry
from tisslm.training.components import Components
from tisslm.training.early_stopping import Stopping
from tisslm.training.snapshot.conditions import Conditions
from tisslm.training.state import TrainerState
from tisslm.training.step import StepResult

__all__ = ["Contents", "Owned", "StateOwner"]

Contents = Mapping[File[Any], Any]


@dataclass(frozen=True)
class Owned:
    """The parts of a run that owners take states from and give states back to.

    Attributes
    ----------
    parts : Components
    conditions : Conditions
    stopping : Stopping
        Its standing is a part of the state.
    registry : Registry
        It knows the registered name of a tokenizer.
    """

    parts: Components
    conditions: Conditions
    stopping: Stopping
    registry: Registry


class StateOwner(ABC):
    """Gives some files of a checkpoint their contents, and takes them back.

    Parameters
    ----------
    run : Owned

    Attributes
    ----------
    files : tuple of File
        All that it may give. A checkpoint that lacks a required one is not resumed from; if it has
        none of them, the owner is left out, and its state stays as the run began it.
    """

    files: ClassVar[tuple[File[Any], ...]]

    def __init__(self, run: Owned) -> None:
        self.run = run

    @classmethod
    def planned(cls, parameters: Parameters, slots: Sequence[int]) -> Iterable[int]:
        """Return the bytes of each array that ``take`` will give, before there is a run.

        Parameters
        ----------
        parameters : Parameters
            The model's, with memory or without.
        slots : sequence of int
            Bytes of each array that is laid out beside the parameters: the optimizer's state, and
            the average of the weights.
        """
        return ()

    def note(self, result: StepResult, state: TrainerState) -> None:  # noqa: B027 (notes nothing)
        """Take notice of a step; what an owner gathers of the run itself, it keeps.

        Parameters
        ----------
        result : StepResult
            ``applied`` says whether there was an update.
        state : TrainerState
            The position after it: ``step`` counts the updates. (``updates`` is what a checkpoint
            had, and moves at a resume only; the live number is the parameters'.)
        """

    @abstractmethod
    def take(self, state: TrainerState) -> Contents:
        """Return the contents of its files; arrays may be views.

        Parameters
        ----------
        state : TrainerState
            The position.
        """

    def named(self, found: Checkpoint, where: Path) -> Checkpoint:
        """Return a checkpoint from the disk with the names that ``take`` gives; it is not changed.

        Whatever else is asked of an owner sees these names.

        Raises
        ------
        CheckpointError
            If it does not fit the run.
        """
        return found

    def check(self, found: Checkpoint, where: Path) -> None:  # noqa: B027 (takes anything)
        """Look at a checkpoint, and change nothing.

        Parameters
        ----------
        found : Checkpoint
        where : Path
            Its directory, for messages.

        Raises
        ------
        CheckpointError
            If it does not fit the run.
        """

    def read(self, found: Checkpoint) -> Contents:
        """Read the contents of its files into memory, from a checkpoint that was checked.

        Parameters
        ----------
        found : Checkpoint
        """
        contents = {file: found[file] for file in self.files if file in found.files}
        arrays = {file: dict(arrays) for file, arrays in found.arrays() if file in contents}
        return contents | arrays

    @abstractmethod
    def put(self, found: Checkpoint, state: TrainerState, where: Path) -> None:
        """Give the run what a checkpoint has, which ``check`` has seen.

        Parameters
        ----------
        found : Checkpoint
            Its contents are in memory.
        state : TrainerState
            The position that the run goes to.
        where : Path
            Its directory, for messages.

        Raises
        ------
        CheckpointError
            Only where a part can tell no earlier whether it takes its state.
        """

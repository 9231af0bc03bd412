"""The position of a run: its counts and losses, and how they are written to a checkpoint.

The states of parts are not among them; each part returns its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from tisslm.errors import CheckpointError
from tisslm.system.safe_files import show

__all__ = [
    "LossHistory",
    "TrainerState",
]

Array = NDArray[Any]
#: The most losses for which memory is taken before the first step (8 MiB).
MOST_PLANNED = 2**20
#: The fewest.
LEAST = 1024


class LossHistory(Sequence[float]):
    """A sequence of losses that grows at its end; compares, indexes and slices like a list.

    A list of as many floats takes four times the memory, which a long run would see growing.

    Parameters
    ----------
    losses : iterable of float, default ()
        In nats.
    room : int, default 0
        How many there will be; up to 2^20 of them take their memory now, not while training.
    """

    def __init__(self, losses: Iterable[float] = (), *, room: int = 0) -> None:
        first = np.array(losses if isinstance(losses, np.ndarray) else list(losses), np.float64)
        self._count = len(first)
        self._losses = np.empty(max(LEAST, min(room, MOST_PLANNED), self._count), np.float64)
        self._losses.fill(np.nan)  # touched now: pages of fresh memory are not there before
        self._losses[: self._count] = first

    def append(self, loss: float) -> None:
        """Add the loss of an update."""
        if self._count == len(self._losses):
            grown = np.full(2 * len(self._losses), np.nan)
            grown[: self._count] = self._losses
            self._losses = grown
        self._losses[self._count] = loss
        self._count += 1

    def as_array(self) -> Array:
        """Return the losses as a view, float64 of shape (n,)."""
        return self._losses[: self._count]

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice) -> list[float]: ...

    def __getitem__(self, index: int | slice) -> float | list[float]:
        found = self.as_array()[index].tolist()
        return found  # type: ignore[no-any-return]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return self[:] == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self[:])


@dataclass
class TrainerState:
    """The position of a run.

    Attributes
    ----------
    step : int
        Updates made.
    epoch : int
    updates : int
        Updates of the parameters that the checkpoint had which the run went on from; a part of the
        key of every random draw.
    tokens_seen : int
        Input tokens of all windows that were trained on, over all processes.
    skipped : int
        Steps that made no update: their gradients overflowed under the loss scale, or they were
        refused. Each has used up its windows.
    refused_in_a_row : int
        Steps that were refused since the last update.
    clipped : int
        Updates since the last line of metrics whose gradients were clipped.
    reported_step, sampled_step : int
        The steps of the last line of metrics and of the last samples.
    loss_history : LossHistory
        The loss of every update; not in the JSON, but an array of its own.
    evaluation : dict
        Step and metrics of the last evaluation; empty before the first.
    scaling : dict
        The saved state of the loss scale; empty before anything was loaded.
    """

    step: int = 0
    epoch: int = 0
    updates: int = 0
    tokens_seen: int = 0
    skipped: int = 0
    refused_in_a_row: int = 0
    clipped: int = 0
    reported_step: int = 0
    sampled_step: int = 0
    loss_history: LossHistory = field(default_factory=LossHistory)
    evaluation: dict[str, float] = field(default_factory=dict)
    scaling: dict[str, float] = field(default_factory=dict)

    @property
    def position(self) -> int:
        """How many batches the dataset has given: the number of the next one."""
        return self.step + self.skipped

    def count_update(self, loss: float, clipped: bool) -> None:
        """Move on by an update.

        Parameters
        ----------
        loss : float
            The loss of the update, in nats.
        clipped : bool
            Whether its gradients were clipped.
        """
        self.step += 1
        self.refused_in_a_row = 0
        self.clipped += clipped
        self.loss_history.append(loss)

    def count_refusal(self) -> None:
        """Move on by a step that was refused, and has used up its window."""
        self.refused_in_a_row += 1
        self.skipped += 1

    def count_report(self) -> None:
        """Begin to count clipped updates anew: a line of metrics was written."""
        self.clipped, self.reported_step = 0, self.step

    def as_json(self) -> dict[str, Any]:
        """Return plain values, with the names that other trainers use."""
        return {
            "global_step": self.step,
            "epoch": self.epoch,
            "num_input_tokens_seen": self.tokens_seen,
            "skipped_steps": self.skipped,
            "refused_in_a_row": self.refused_in_a_row,
            "clipped_updates": self.clipped,
            "reported_step": self.reported_step,
            "sampled_step": self.sampled_step,
            "evaluation": self.evaluation,
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what would be long in JSON: ``loss_history``, float64 of shape (n,), a view."""
        return {"loss_history": self.loss_history.as_array()}

    @classmethod
    def load(
        cls, value: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], where: Path, room: int
    ) -> TrainerState:
        """Take back what ``as_json`` and ``arrays`` returned.

        Parameters
        ----------
        value, arrays : mapping
        where : Path
            What they were read from, for messages.
        room : int
            How many losses there will be.

        Raises
        ------
        CheckpointError
            If a value is missing or of another type, or a count is negative.
        """
        try:
            return cls(
                step=_count(value, "global_step"),
                epoch=_count(value, "epoch"),
                updates=_count(value, "updates"),
                tokens_seen=_count(value, "num_input_tokens_seen"),
                skipped=_count(value, "skipped_steps", 0),
                refused_in_a_row=_count(value, "refused_in_a_row", 0),
                clipped=_count(value, "clipped_updates", 0),
                reported_step=_count(value, "reported_step", _count(value, "global_step")),
                sampled_step=_count(value, "sampled_step", 0),
                evaluation={
                    name: _count({name: found}, name) if name == "step" else float(found)
                    for name, found in value.get("evaluation", {}).items()
                },
                scaling={k: float(v) for k, v in value.get("loss_scaling", {}).items()},
                loss_history=LossHistory(arrays["loss_history"].ravel(), room=room),
            )
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(
                f"{where}: not the state of a trainer ({error!r}); use an earlier checkpoint"
            ) from error


def _count(value: Mapping[str, Any], name: str, default: int | None = None) -> int:
    """Return an integer from 0 to 2^63 - 1; True and 1.0 are none."""
    found = value[name] if default is None else value.get(name, default)
    if type(found) is not int or not 0 <= found < 2**63:
        raise ValueError(f"expected {name} to be a count, got {show(found)}")
    return found

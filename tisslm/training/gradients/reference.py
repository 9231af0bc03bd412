"""The reference of preferences: what the model says of all answers before its first step.

It is one number for each answer, so it is computed once, in place of a second model beside the
first. A checkpoint has it (``tisslm.training.snapshot``), for trained weights can tell it no more.
With adapters, the model before its first step is the one that they are beside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Communicator, Dataset, Loss, Model, PairBatch, Rows
from tisslm.contracts.model import TargetLosses
from tisslm.contracts.preference import Referring
from tisslm.datasets.few import FewWindows
from tisslm.errors import CheckpointError, NonFiniteError
from tisslm.training.ranks.agreement import array_of_ranks

__all__ = ["Reference", "score_answers"]

Array = NDArray[Any]


def score_answers(model: Model, pairs: PairBatch, loss: Loss) -> Array:
    """Return the log-probability of each answer, without dropout; of shape (2, P), float64.

    Parameters
    ----------
    model : Model
    pairs : PairBatch
    loss : Loss
        The cross-entropy.
    """
    seen = TargetLosses(loss)
    model.step_loss(pairs.batch, seen, gradient=False, train=False)
    return -pairs.sums(seen.taken(pairs.batch.y_BT.shape))


@final
class Reference:
    """The log-probabilities of the answers of some datasets, which keep them.

    Parameters
    ----------
    model : Model
    loss : Loss
        The cross-entropy.
    datasets : sequence of Dataset
        Of pairs; those that give a reference by themselves are left alone.
    batch_size : int
        Pairs of a pass.
    communicator : Communicator
        Its ranks share out the passes; the result is the same.
    """

    def __init__(
        self,
        model: Model,
        loss: Loss,
        datasets: Sequence[Dataset],
        batch_size: int,
        communicator: Communicator,
    ) -> None:
        self._model, self._loss = model, loss
        self._batch_size, self._communicator = batch_size, communicator
        self._parts: dict[str, tuple[list[Referring], Sequence[int]]] = {}
        for dataset in datasets:
            whole = dataset.whole if isinstance(dataset, FewWindows) else dataset
            numbers = dataset.numbers if isinstance(dataset, FewWindows) else range(len(dataset))
            if isinstance(whole, Referring):  # the same pairs may be given for both purposes
                self._parts.setdefault(whole.fingerprint(), ([], numbers))[0].append(whole)

    @property
    def arrays(self) -> dict[str, Array]:
        """What is known, by the fingerprints of the datasets; to be read only."""
        parts = self._parts.items()
        return {key: own[0].reference for key, (own, _) in parts if own[0].reference is not None}

    def check(self, arrays: Mapping[str, Array], where: str) -> None:
        """Refuse what ``put`` is not to be given.

        Parameters
        ----------
        arrays : mapping of str to ndarray
        where : str
            What messages begin with.

        Raises
        ------
        CheckpointError
            If an array has another shape or type, or a number of a pair of the run is not finite.
        """
        for key, (own, numbers) in self._parts.items():
            if key not in arrays:
                continue
            found, shape = arrays[key], (len(own[0]), 2)
            if found.shape != shape or found.dtype != np.float64:
                raise CheckpointError(
                    f"{where}: expected log-probabilities of shape {shape} and float64, got "
                    f"{found.dtype} of shape {found.shape}; use an earlier checkpoint"
                )
            if missing := sum(not np.isfinite(found[number]).all() for number in numbers):
                raise CheckpointError(
                    f"{where}: expected finite log-probabilities of {len(numbers)} pairs, got none "
                    f"of {missing}; go on with the pairs of the run, those of "
                    "training.overfit_batches among them, or use an earlier checkpoint"
                )

    def put(self, arrays: Mapping[str, Array]) -> None:
        """Take back what ``arrays`` gave; of other data, nothing is taken."""
        for key, (own, _) in self._parts.items():
            if key in arrays:
                for part in own:
                    part.reference = np.array(arrays[key])

    def find(
        self,
        check: Callable[[], None],
        *,
        trained: bool,
        only: Sequence[int] | None = None,
    ) -> None:
        """Compute what is not known yet.

        Parameters
        ----------
        check : callable
            Called before each pass; what it raises ends it.
        trained : bool
            Whether the model has made a step, so that it is no reference any more.
        only : sequence of int, optional
            Windows of the first dataset that will do, for a trial; NaN stands for the others, and
            of other datasets a batch is done.

        Raises
        ------
        CheckpointError
            If the model is trained, and something is missing.
        NonFiniteError
            If the model gives an answer no finite number.
        """
        for place, (own, numbers) in enumerate(self._parts.values()):
            if only is not None:
                numbers = [numbers[i] for i in only] if not place else numbers[: self._batch_size]
            known = next((part.reference for part in own if _knows(part, numbers)), None)
            if known is None and trained:
                raise CheckpointError(
                    "reference: expected the log-probabilities of these pairs in the checkpoint, "
                    "which the model before its first step has given, got those of others or none; "
                    "go on with the pairs of the run, or begin anew from this checkpoint with "
                    "model.from"
                )
            known = self._scored(own[0], numbers, check) if known is None else known
            for part in own:
                part.reference = known

    def _scored(
        self, dataset: Referring, numbers: Sequence[int], check: Callable[[], None]
    ) -> Array:
        """Return the log-probabilities of some windows, NaN for the others."""
        size, communicator = self._batch_size, self._communicator
        batches = [numbers[first : first + size] for first in range(0, len(numbers), size)]
        own = [np.empty((0, 2))]
        for batch in batches[communicator.rank :: communicator.size]:
            check()
            communicator.beat("the reference")
            rows = Rows.stack([dataset.window(number) for number in batch])
            pairs = PairBatch.pack(rows, self._model.seq_len)
            own.append(score_answers(self._model, pairs, self._loss).T)
        found_n2 = array_of_ranks(communicator, np.concatenate(own))
        if not np.isfinite(found_n2).all():
            raise NonFiniteError(
                "reference: expected a finite log-probability of each answer, got "
                f"{found_n2[~np.isfinite(found_n2)][0]}; look at the weights that the run starts "
                'from, or try precision = "fp32"'
            )
        reference_N2 = np.full((len(dataset), 2), np.nan)
        reference_N2[list(_of_ranks(batches, communicator.size))] = found_n2
        return reference_N2


def _knows(part: Referring, numbers: Sequence[int]) -> bool:
    """Return whether some windows have a reference; after a trial, few others have."""
    reference = part.reference
    return reference is not None and bool(np.isfinite(reference[list(numbers)]).all())


def _of_ranks(batches: Sequence[Sequence[int]], size: int) -> Iterator[int]:
    """Yield the numbers of all batches, those of rank 0 first."""
    for rank in range(size):
        for batch in batches[rank::size]:
            yield from batch

"""What an encoder's updates take: rows of packed texts, and the vectors of all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Dataset, Encoder, TextBatch
from tisslm.contracts.embedding import first_fit
from tisslm.training.memory_plan.items import Item

__all__ = ["TextSizes"]

Array = NDArray[Any]

#: Examples that are looked at, spread evenly.
LOOKED_AT = 1000

#: Deviations of a micro-batch's tokens above their mean that are planned for. What is rarer makes
#: the workspace grow in the middle of a run.
DEVIATIONS = 6.0


@final
class TextSizes:
    """How long the texts of some examples are, and how many rows a micro-batch of them takes.

    Texts of a micro-batch are packed when their pass comes, so this is an estimate from above.

    Parameters
    ----------
    model : Encoder
    datasets : sequence of Dataset
        What is trained on, or nothing: then two texts of full length are planned for.
    """

    def __init__(self, model: Encoder, datasets: Sequence[Dataset]) -> None:
        self._model = model
        self._time = model.seq_len
        self._lengths_NK = np.full((1, 2), self._time)
        for dataset in datasets:
            count = min(LOOKED_AT, len(dataset))
            places = [i * len(dataset) // count for i in range(count)]
            found = [dataset.window(i).others.get("lengths") for i in places]
            known = [lengths_K for lengths_K in found if lengths_K is not None]
            if known:
                self._lengths_NK = np.minimum(np.stack(known), self._time)

    @property
    def n_texts(self) -> int:
        """K."""
        return int(self._lengths_NK.shape[1])

    def rows(self, batch: int) -> int:
        """Return B of the passes of so many examples."""
        tokens_N = self._lengths_NK.sum(axis=1)
        texts, longest = batch * self.n_texts, int(tokens_N.max()) * batch
        spread = DEVIATIONS * math.sqrt(batch) * float(tokens_N.std())
        tokens = min(longest, math.ceil(batch * float(tokens_N.mean()) + spread))
        some_NK = self._lengths_NK[:batch]
        filled_B = first_fit(some_NK.reshape(-1), self._time)[2]
        rows = math.ceil(tokens * len(filled_B) / int(some_NK.sum())) + 1
        return min(rows, TextBatch.most_rows(texts, longest, self._time))

    def vectors(self, own: int, examples: int) -> Iterator[Item]:
        """Yield the vectors of an update, and their gradients.

        Parameters
        ----------
        own, examples : int
            Of this rank, and of all.
        """
        numbers = self.n_texts * self._model.embedding_size
        # of all ranks the vectors and their gradients; of this one, both once more in its own order
        nbytes = 2 * numbers * np.dtype(self._model.dtype).itemsize * (examples + own)
        yield Item("batches", "", nbytes)

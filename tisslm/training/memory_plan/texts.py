"""What updates of packed texts take: rows of an encoder's texts or of pairs, and their vectors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Dataset, Encoder, Network, TextBatch
from tisslm.contracts.embedding import first_fit
from tisslm.contracts.preference import PAIR
from tisslm.training.memory_plan.items import Item

__all__ = ["PackedTexts", "packed_texts", "vector_items"]

Array = NDArray[Any]

#: Examples that are looked at, spread evenly.
LOOKED_AT = 1000

#: Deviations of a micro-batch's tokens above their mean that are planned for. What is rarer makes
#: the workspace grow in the middle of a run.
DEVIATIONS = 6.0

#: Bytes that a pass of pairs takes for each token beside its buffers: losses twice, and weights.
PAIR_BYTES = 4 * 8


@final
class PackedTexts:
    """How long the texts of some examples are, and how many rows a micro-batch of them takes.

    Texts of a micro-batch are packed when their pass comes, so this is an estimate from above.

    Parameters
    ----------
    time : int
        The longest row.
    lengths_NK : ndarray of shape (N, K)
        The tokens of the texts of some examples.
    """

    def __init__(self, time: int, lengths_NK: Array) -> None:
        self._time = time
        self._lengths_NK = np.minimum(lengths_NK, time)

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


def packed_texts(model: Network, datasets: Sequence[Dataset]) -> PackedTexts | None:
    """Return what is packed into the rows of training passes; None where rows come as they are.

    Parameters
    ----------
    model : Network
    datasets : sequence of Dataset
        What is trained on, or nothing: then two texts of full length are planned for an encoder.
    """
    name = "lengths" if isinstance(model, Encoder) else PAIR
    for dataset in datasets[:1]:
        count = min(LOOKED_AT, len(dataset))
        places = [i * len(dataset) // count for i in range(count)]
        if places and name not in dataset.window(0).others:
            break
        found = [dataset.window(i).others[name] for i in places]
        if found:
            return PackedTexts(model.seq_len, np.stack(found))
    return PackedTexts(model.seq_len, np.full((1, 2), model.seq_len)) if name != PAIR else None


def vector_items(model: Encoder, n_texts: int, own: int, examples: int) -> Iterator[Item]:
    """Yield the vectors of an update, and their gradients.

    Parameters
    ----------
    model : Encoder
    n_texts : int
        K.
    own, examples : int
        Of this rank, and of all.
    """
    numbers = n_texts * model.embedding_size
    # of all ranks the vectors and their gradients; of this one, both once more in its own order
    nbytes = 2 * numbers * np.dtype(model.dtype).itemsize * (examples + own)
    yield Item("batches", "", nbytes)

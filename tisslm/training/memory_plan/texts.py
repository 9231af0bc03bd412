"""What an encoder's updates take: rows of packed texts, and the vectors of all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tisslm.contracts import Dataset, Encoder, TextBatch
from tisslm.training.memory_plan.items import Item

__all__ = ["most_rows", "text_items"]


def n_texts(datasets: Sequence[Dataset]) -> int:
    """Return K of the examples of a dataset; 2 where there is none to ask."""
    for dataset in datasets:
        if len(dataset):
            return len(dataset.window(0).others.get("lengths", (0, 0)))
    return 2


def most_rows(datasets: Sequence[Dataset], batch: int, time: int) -> int:
    """Return the most rows that the texts of a micro-batch may take.

    Parameters
    ----------
    datasets : sequence of Dataset
        What is trained on, or nothing.
    batch : int
        Examples of a micro-batch.
    time : int
        The longest T.
    """
    texts = batch * n_texts(datasets)
    tokens = sum(batch * dataset.seq_len for dataset in datasets) or texts * time
    return TextBatch.most_rows(texts, tokens, time)


def text_items(
    model: Encoder, datasets: Sequence[Dataset], own: int, examples: int
) -> Iterator[Item]:
    """Yield the vectors of an update, and their gradients.

    Parameters
    ----------
    model : Encoder
    datasets : sequence of Dataset
    own, examples : int
        Of this rank, and of all.
    """
    vector = n_texts(datasets) * model.embedding_size * np.dtype(model.dtype).itemsize
    # of all ranks the vectors and their gradients; of this one, both once more in its own order
    yield Item("batches", "", 2 * vector * (examples + own))

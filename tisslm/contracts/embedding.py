"""Texts as an encoder gets them, their vectors as a loss gets them, and the loss.

Letters beside those of ``docs/notation.md``: N examples of an update, K texts of an example (an
anchor, its positive, then hard negatives), P texts of a pass, E numbers of a vector.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts.stateful import Stateful
from tisslm.errors import DataError, ShapeError

__all__ = ["EmbeddingLoss", "PooledBatch", "PooledValue", "TextBatch", "first_fit"]

FloatArray = NDArray[Any]
IntArray = NDArray[Any]

#: Rows' lengths are multiples of it.
WIDTHS = 64


@dataclass(frozen=True, slots=True, eq=False)
class TextBatch:
    """Texts in rows, several in one, with the places where each begins and ends.

    Attributes
    ----------
    x_BT : ndarray of int32 of shape (B, T)
        Token ids; 0 where there is no text.
    start_BT, stop_BT : ndarray of int32 of shape (B, T)
        Positions in its row where the text of each token begins, and behind its last token. What
        is left of a row after its last text counts as one more, which nobody reads.
    first_P, stop_P : ndarray of int64 of shape (P,)
        Text p is ``x_BT.reshape(-1)[first_P[p]:stop_P[p]]``.

    Examples
    --------
    >>> texts = TextBatch.pack([np.array([5, 6, 7]), np.array([8]), np.array([9, 9])], time=4)
    >>> texts.x_BT.tolist()
    [[5, 6, 7, 8], [9, 9, 0, 0]]
    """

    x_BT: IntArray  # noqa: N815
    start_BT: IntArray  # noqa: N815
    stop_BT: IntArray  # noqa: N815
    first_P: IntArray  # noqa: N815
    stop_P: IntArray  # noqa: N815

    @classmethod
    def pack(cls, texts: Sequence[IntArray], time: int) -> TextBatch:
        """Lay texts into rows of at most ``time`` tokens.

        Each goes to the first row that has room for it, in the order given, so the result is a
        function of the texts alone. Rows are as long as the fullest one, rounded up to a multiple
        of 64 but not beyond ``time``, so that passes have few shapes.

        Parameters
        ----------
        texts : sequence of integer ndarray of shape (n,)
        time : int
            The longest T.

        Raises
        ------
        DataError
            If there is no text, or one is empty.
        ShapeError
            If one is longer than a row.

        References
        ----------
        Johnson, "Near-Optimal Bin Packing Algorithms", 1973: first fit takes at most 1.7 times as
        many rows as are needed.
        """
        lengths_P = np.array([len(text) for text in texts], dtype=np.int64)
        _check_lengths(lengths_P, time)
        row_P, begin_P, filled_B = first_fit(lengths_P, time)
        width = min(time, -(-int(filled_B.max()) // WIDTHS) * WIDTHS)
        shape = (len(filled_B), width)
        first_P = row_P * width + begin_P
        stop_P = first_P + lengths_P
        x_N = np.zeros(len(filled_B) * width, dtype=np.int32)
        start_BT = np.repeat(filled_B.astype(np.int32)[:, None], width, axis=1)  # the padding's
        stop_BT = np.full(shape, width, dtype=np.int32)
        # where each token goes, text by text: one pass over all of them, for texts are short
        goes_N = np.arange(lengths_P.sum())
        goes_N += np.repeat(first_P - (np.cumsum(lengths_P) - lengths_P), lengths_P)
        x_N[goes_N] = np.concatenate(texts)
        start_BT.reshape(-1)[goes_N] = np.repeat(begin_P, lengths_P)
        stop_BT.reshape(-1)[goes_N] = np.repeat(begin_P + lengths_P, lengths_P)
        return cls(x_N.reshape(shape), start_BT, stop_BT, first_P, stop_P)

    @staticmethod
    def most_rows(texts: int, tokens: int, time: int) -> int:
        """Return how many rows ``pack`` may take for so many texts, of so many tokens together.

        Any two neighbouring rows have more than ``time`` tokens, or first fit would have made one
        of them.
        """
        return min(texts, 2 * tokens // (time + 1) + 1)


def _check_lengths(lengths_P: IntArray, time: int) -> None:
    """Refuse texts that no row can be made of."""
    if not len(lengths_P):
        raise DataError("texts: expected at least one, got none")
    if lengths_P.min() < 1:
        raise DataError(
            f"texts: expected at least one token in each, got an empty one at place "
            f"{int(lengths_P.argmin())}; drop it"
        )
    if lengths_P.max() > time:
        raise ShapeError(
            f"texts: expected at most the model's {time} tokens in each, got {lengths_P.max()} at "
            f"place {int(lengths_P.argmax())}; cut it"
        )


def first_fit(lengths_P: IntArray, time: int) -> tuple[IntArray, IntArray, IntArray]:
    """Return row and beginning of each text, and how far each row is filled, text by text.

    A tournament over the rows finds the first with room in log2(P) steps: leaf ``leaves + b`` is
    row b, and each node has the most room below it.
    """
    leaves = 1 << max(0, len(lengths_P) - 1).bit_length()
    room = [time] * (2 * leaves)
    leaf_P, begin_P = [], []
    for length in lengths_P.tolist():
        node = 1
        while node < leaves:
            node *= 2
            if room[node] < length:
                node += 1
        leaf_P.append(node)
        begin_P.append(time - room[node])
        room[node] = most = room[node] - length
        while node > 1 and most < room[node // 2]:
            most = max(most, room[node ^ 1])
            node //= 2
            room[node] = most
    rows = np.array(leaf_P, dtype=np.int64) - leaves
    room_B = room[leaves : leaves + int(rows.max(initial=-1)) + 1]
    return rows, np.array(begin_P, dtype=np.int64), time - np.array(room_B, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class PooledBatch:
    """The vectors of all texts of an update.

    Attributes
    ----------
    embeddings_KNE : ndarray of shape (K, N, E), float32 or float64
        Of text k of example n, of all ranks; to be read only.
    text_ids_KN : ndarray of int64 of shape (K, N)
        Equal for texts of equal tokens, and for no others.
    score_N : ndarray of shape (N,), optional
        How alike the texts of each example are to be; None if the data do not say.
    log_scale : float, optional
        The model's learned logarithm of 1 / temperature; None if it learns none.
    """

    embeddings_KNE: FloatArray  # noqa: N815
    text_ids_KN: IntArray  # noqa: N815
    score_N: FloatArray | None = None  # noqa: N815
    log_scale: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PooledValue:
    """What a loss of vectors comes to.

    Attributes
    ----------
    loss : float
        The mean over the N examples.
    d_embeddings_KNE : ndarray of shape (K, N, E), optional
        The gradient by the vectors, in their type; None if it was not asked for.
    d_log_scale : float
        The gradient by the learned scale, 0.0 if there is none.
    """

    loss: float
    d_embeddings_KNE: FloatArray | None = None  # noqa: N815
    d_log_scale: float = 0.0


class EmbeddingLoss(Stateful, ABC):
    """A loss of the vectors of all texts of an update, for training an ``Encoder``.

    It is called once for each update, on every rank with the same arrays; so what it computes, and
    in which order it adds, follows from these alone.
    """

    #: Whether examples need a score.
    needs_score: ClassVar[bool] = False

    #: Whether the examples of an update are compared with each other, so that one alone is refused.
    needs_others: ClassVar[bool] = False

    #: By what vectors are compared, "cosine" or "dot": an evaluation compares them so, too.
    similarity: str = "cosine"

    #: How many texts an example may have.
    n_texts: range = range(2, 2**31)

    #: Whether it takes the temperature that the model learns, so that the model needs one.
    learns_scale: bool = False

    #: How many numbers a vector has at least, so that a run with shorter ones is refused at once.
    least_size: int = 1

    @abstractmethod
    def value(self, pooled: PooledBatch, *, gradient: bool = True) -> PooledValue:
        """Compute the mean loss over the examples and, if asked for, the gradients."""

"""Packing documents of any length into rows of a fixed length.

Which documents share a row when they are placed whole is decided in ``row_plan``.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import IGNORE_INDEX, Rows
from tisslm.datasets.documents import TokenDocuments
from tisslm.datasets.offsets import offsets_in
from tisslm.datasets.row_plan import RowPlan, plan_rows
from tisslm.datasets.rows import RowDataset
from tisslm.datasets.tokens import SCAN_TOKENS
from tisslm.errors import ConfigError, DataError

__all__ = ["PackedDataset"]

IntArray = NDArray[Any]


class PackedDataset(RowDataset):
    """Rows of ``seq_len`` inputs and targets, filled with documents.

    With ``packing="stream"``, row i has the tokens ``i*T`` to ``i*T + T - 1`` of all documents one
    after another and, as targets, those one further on; a document may be cut where a row ends,
    and what remains at the end, fewer than T targets, is in no row. With ``packing="whole"``, a
    document stays in one row (longer ones are cut into rows of T and a rest) and rows are filled
    up with padding: id 0 with the target -100. What has nothing to be learned, such as a row's
    length of a long prompt, is in no row: a batch of it could not be trained on.

    With ``document_mask``, rows have ``start``. ``start[t]`` is the place in the row where the
    document of token t begins: t sees nothing before it, and its position is ``t - start[t]``.
    No token is predicted from another document: the target of a document's last token is -100.
    Where every row has one document, ``start`` is None.

    Parameters
    ----------
    documents : TokenDocuments
        Where it has ``learn``, a token that may not be learned is the target -100.
    seq_len : int
        T, at least 1.
    packing : {"stream", "whole"}
    document_mask : bool
        False lets tokens see, and in streams predict, across documents.
    batch_size, seed : int, optional
        What iteration over the dataset uses; the Trainer fills them in when left out.

    Raises
    ------
    ConfigError
        If ``seq_len`` or ``packing`` is not one of the above.
    DataError
        If there are too few tokens for one row, or there is nothing to learn.
    """

    def __init__(
        self,
        documents: TokenDocuments,
        seq_len: int,
        *,
        packing: Literal["stream", "whole"] = "stream",
        document_mask: bool = True,
        batch_size: int | None = None,
        seed: int | None = None,
    ) -> None:
        if isinstance(seq_len, bool) or not isinstance(seq_len, Integral) or seq_len < 1:
            raise ConfigError(f"seq_len: expected an integer >= 1, got {seq_len!r}")
        if packing not in ("stream", "whole"):
            raise ConfigError(f'packing: expected "stream" or "whole", got {packing!r}')
        self.documents: TokenDocuments = documents
        self.seq_len = int(seq_len)
        self.vocab_size = documents.vocab_size
        self.batch_size = batch_size
        self.seed = seed
        self._plan: RowPlan | None = None
        self._numbers: IntArray | None = None
        if packing == "whole":
            self._plan = plan_rows(np.asarray(documents.offsets), self.seq_len, documents.learn)
            self._rows: int = len(self._plan.first) - 1
            self.has_starts = document_mask and self._plan.most_pieces > 1
        else:
            self._rows = (len(documents.tokens) - 1) // self.seq_len
            self.has_starts = document_mask and len(documents) > 1
            if documents.learn is not None:
                learned = learned_rows(documents, self._rows, self.seq_len, self.has_starts)
                self._numbers = learned if len(learned) < self._rows else None
                self._rows = len(learned)
        self._check_rows()

    def _check_rows(self) -> None:
        documents = self.documents
        if self._plan is None and len(documents.tokens) <= self.seq_len:
            raise DataError(
                f"{documents.where}: expected at least {self.seq_len + 1} tokens for one row of "
                f"seq_len {self.seq_len} and its last target, got {len(documents.tokens)}; give a "
                'longer text, a smaller seq_len, or packing = "whole", which fills rows up'
            )
        if not self._rows and documents.learn is not None:
            raise DataError(
                f"{documents.where}: expected tokens to learn, got only prompts; give "
                "completions, or set mask_prompt to false"
            )
        if not self._rows:
            raise DataError(
                f"{documents.where}: expected a document of at least 2 tokens, got only shorter "
                "ones; one token has no next one to learn"
            )

    def __len__(self) -> int:
        return self._rows

    @property
    def nbytes(self) -> int:
        """The bytes of the tokens and of the tables of rows that are in memory."""
        rows = self._plan if self._numbers is None else self._numbers
        return self.documents.nbytes + (0 if rows is None else rows.nbytes)

    def check_source(self) -> None:
        """Raise ``DataError`` if a file that is read was changed since it was opened."""
        self.documents.check_source()

    # ------------------------------------------------------------------ rows

    def scratch(self) -> NDArray[np.bool_] | None:
        """Return a scratch mask for the targets that are not to be learned, None if all are."""
        return None if self.documents.learn is None else np.empty(self.seq_len, bool)

    def fill(self, i: int, rows: Rows, place: int, scratch: Any) -> None:
        """Write row ``i``: inputs, targets and, if ``has_starts``, starts."""
        start = rows.start if self.has_starts else None
        row = rows.x[place], rows.y[place], None if start is None else start[place]
        if self._plan is None:
            number = i if self._numbers is None else int(self._numbers[i])
            self._fill_stream(number * self.seq_len, *row, scratch)
        else:
            self._fill_whole(self._plan, i, *row, scratch)

    def _fill_stream(
        self, begin: int, x_T: IntArray, y_T: IntArray, start_T: IntArray | None, scratch: Any
    ) -> None:
        """Write the tokens from ``begin`` on, with every document that begins among them."""
        self._copy(begin, x_T, y_T, scratch)
        if start_T is None:
            return
        start_T[:] = 0
        inside = offsets_in(self.documents.offsets, begin + 1, begin + self.seq_len + 1)
        for offset in inside.tolist():
            t = offset - begin
            y_T[t - 1] = IGNORE_INDEX
            start_T[t:] = t

    def _fill_whole(
        self,
        plan: RowPlan,
        i: int,
        x_T: IntArray,
        y_T: IntArray,
        start_T: IntArray | None,
        scratch: Any,
    ) -> None:
        """Write the pieces of row ``i`` side by side, then padding, a document of its own."""
        t = 0
        for piece in range(int(plan.first[i]), int(plan.first[i + 1])):
            end = t + int(plan.lengths[piece])
            self._copy(int(plan.begins[piece]), x_T[t:end], y_T[t:end], scratch)
            if start_T is not None:
                start_T[t:end] = t
            t = end
        x_T[t:] = 0
        y_T[t:] = IGNORE_INDEX
        if start_T is not None:
            start_T[t:] = t

    def _copy(self, begin: int, x_n: IntArray, y_n: IntArray, scratch: Any) -> None:
        """Write n inputs from token ``begin`` on and n targets from the one after it."""
        tokens, learn, length = self.documents.tokens, self.documents.learn, len(x_n)
        piece = tokens[begin : begin + length + 1]
        x_n[:] = piece[:-1]
        y_n[:] = piece[1:]
        if learn is not None:
            masked = scratch[:length]
            np.logical_not(learn[begin + 1 : begin + length + 1], out=masked)
            np.copyto(y_n, IGNORE_INDEX, where=masked)


def learned_rows(documents: TokenDocuments, rows: int, seq_len: int, masked: bool) -> IntArray:
    """Return the numbers of a stream's rows that have a target, as an int64 array.

    Parameters
    ----------
    documents : TokenDocuments
        The documents; without ``learn``, every token may be a target.
    rows : int
        How many rows there are.
    seq_len : int
    masked : bool
        Whether a document's first token is no target.
    """
    learn = np.ones(len(documents.tokens), bool) if documents.learn is None else documents.learn
    found = [np.empty(0, np.int64)]
    step = max(1, SCAN_TOKENS // seq_len)
    for first in range(0, rows, step):
        begin, end = first * seq_len + 1, min(first + step, rows) * seq_len + 1
        targets = np.array(learn[begin:end], dtype=bool)
        if masked:
            targets[offsets_in(documents.offsets, begin, end) - begin] = False
        found.append(first + np.flatnonzero(targets.reshape(-1, seq_len).any(axis=1)))
    return np.concatenate(found)

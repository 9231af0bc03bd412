"""The gradients of an encoder: vectors of all texts first, then the loss, then pass by pass.

What a loss of vectors says of one text depends on all others of the update, so the passes of
micro-batches cannot be run one by one to their end. Each is run twice: without a gradient for its
vectors, and once the loss has told the gradient by these, again with one. Only the first is run
once: its vectors are made last, so that nothing overwrites what its backward reads. Dropout is
keyed, so the second pass has the bits of the first, and the gradients are those of the whole update
in the memory of a micro-batch.

References
----------
Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", arXiv
2101.06983 (GradCache).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tisslm.config import TrainingConfig
from tisslm.contracts import AnyLoss, EmbeddingLoss, Encoder, PooledBatch, Rows, TextBatch
from tisslm.errors import DataError, ShapeError
from tisslm.tracking.monitoring import Monitoring
from tisslm.training.components import Components
from tisslm.training.gradients.gradients import Gradients, Passed
from tisslm.training.nonfinite.finding import Fault
from tisslm.training.ranks.agreement import array_of_ranks, counts_of_ranks

__all__ = ["TextGradients", "texts_of"]

Array = NDArray[Any]


def texts_of(rows: Rows) -> Iterator[Array]:
    """Yield the ids of each text of some examples, those of the first example first."""
    for x_W, lengths_K in zip(rows.x, rows.others["lengths"], strict=True):
        begin = 0
        for length in lengths_K.tolist():
            yield x_W[begin : begin + length]
            begin += length


def _text_id(text: Array) -> int:
    """Return the same number for the same tokens, and for no others."""
    key = np.ascontiguousarray(text, np.int32).tobytes()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little", signed=True)


@final
class TextGradients(Gradients):
    """Two forward passes a micro-batch but the first, which has one.

    Parameters
    ----------
    model : Encoder
    loss : EmbeddingLoss
    parts, config, monitoring, check
        As for ``Gradients``.
    """

    def __init__(
        self,
        model: Encoder,
        loss: EmbeddingLoss,
        parts: Components,
        config: TrainingConfig,
        monitoring: Monitoring,
        check: Callable[[], None],
    ) -> None:
        super().__init__(parts, config, monitoring, check)
        self._model, self._loss = model, loss

    def leave(self, rows: Rows, loss: AnyLoss | None = None) -> Passed:
        """Leave the gradients of the mean over the examples of all ranks."""
        parts, used = self.parts, loss if isinstance(loss, EmbeddingLoss) else self._loss
        given, tokens = self._count(rows)
        if given == 1 and used.needs_others:
            raise DataError(
                "train_step: expected at least two examples, which the loss compares with each "
                "other, got one; give more"
            )
        parts.optimizer.zero_grad()
        scale = parts.scaler.begin()
        parts.reduction.begin(parts.reduction.share.present(given))
        packed = self._packed(rows)
        own_nKE, cache = self._embed_all(rows, packed)
        value = used.value(self._gathered(rows, own_nKE))
        d_nKE = self._own_gradient(value.d_embeddings_KNE, own_nKE, scale)
        n_texts = d_nKE.shape[1]
        for start, end, context in self._micro_batches(len(rows.x)):
            with context:
                if start > 0:
                    cache = self._embed(packed[start], start, n_texts, gradient=True)[1]
                if self._offset + start == 0:
                    self._add_log_scale(value.d_log_scale * scale)
                self._model.backward_embedded(d_nKE[start:end].reshape(-1, d_nKE.shape[2]), cache)
        return Passed(value.loss, given, tokens)

    @property
    def _offset(self) -> int:
        """The number of this rank's first example within the update."""
        return self.parts.reduction.share.own_rows.start

    # ------------------------------------------------------------------ passes

    def _packed(self, rows: Rows) -> dict[int, TextBatch]:
        """Return the texts of each micro-batch, by its first example: both passes read these."""
        size, longest = self.config.batch_size, self._model.seq_len
        return {
            start: TextBatch.pack(list(texts_of(rows.part(start, start + size))), longest)
            for start in range(0, len(rows.x), size)
        }

    def _embed_all(self, rows: Rows, packed: dict[int, TextBatch]) -> tuple[Array, Any]:
        """Return the vectors of this rank's texts, and the cache of the first micro-batch."""
        size, (count, n_texts) = self.config.batch_size, rows.others["lengths"].shape
        own_nKE = np.empty((count, n_texts, self._model.embedding_size), self._model.dtype)
        cache = None
        for start in [*range(size, count, size), *([0] if count else [])]:
            found_PE, cache = self._embed(packed[start], start, n_texts, gradient=start == 0)
            part_nKE = own_nKE[start : start + size]
            part_nKE[...] = found_PE.reshape(part_nKE.shape)
        return own_nKE, cache

    def _embed(
        self, texts: TextBatch, first: int, n_texts: int, *, gradient: bool
    ) -> tuple[Array, Any]:
        """Run the forward pass of a micro-batch, which monitors see if a backward follows."""
        self._announce()
        first_row = (self._offset + first) * n_texts
        if not gradient:
            return self._model.embed(texts, train=True, first_row=first_row)
        with self._monitoring.watching(texts.start_BT):
            return self._model.embed(texts, train=True, gradient=True, first_row=first_row)

    def _add_log_scale(self, gradient: float) -> None:
        """Add the gradient by the learned temperature, once for an update."""
        scale = self._model.logit_scale
        if scale is not None and scale.trainable:
            grad, accumulate = scale.grad_to_write()
            grad[...] = grad + gradient if accumulate else gradient

    # ------------------------------------------------------------------ arrays of all ranks

    def _gathered(self, rows: Rows, own_nKE: Array) -> PooledBatch:
        """Return the vectors of all ranks, in the order of examples, with what belongs to them."""
        communicator, scale = self.parts.communicator, self._model.logit_scale
        ids = [_text_id(text) for text in texts_of(rows)]
        ids_nK = np.array(ids, np.int64).reshape(own_nKE.shape[:2])
        score = rows.others.get("score")
        all_NKE, all_NK = (array_of_ranks(communicator, part) for part in (own_nKE, ids_nK))
        return PooledBatch(
            np.ascontiguousarray(all_NKE.transpose(1, 0, 2)),
            np.ascontiguousarray(all_NK.T),
            None if score is None else array_of_ranks(communicator, score),
            None if scale is None else float(scale.data[0]),
        )

    def _own_gradient(self, d_KNE: Array | None, own_nKE: Array, scale: float) -> Array:
        """Return the gradient by this rank's vectors, times the loss scale, in a new array."""
        count, n_texts, width = own_nKE.shape
        if d_KNE is None or d_KNE.shape[::2] != (n_texts, width) or d_KNE.dtype != own_nKE.dtype:
            got = "none" if d_KNE is None else f"{d_KNE.shape} {d_KNE.dtype}"
            raise ShapeError(
                f"loss: expected a gradient of shape ({n_texts}, N, {width}) {own_nKE.dtype}, as "
                f"the vectors have, got {got}; return it from EmbeddingLoss.value"
            )
        own_KnE = d_KNE[:, self._offset : self._offset + count]
        d_nKE: Array = np.ascontiguousarray(own_KnE.transpose(1, 0, 2))
        if scale != 1.0:
            d_nKE = d_nKE * d_nKE.dtype.type(scale)
        return d_nKE

    # ------------------------------------------------------------------ checks, faults

    def _count(self, rows: Rows) -> tuple[int, int]:
        """Check the arrays of an update; count the examples, and their tokens, of all ranks."""
        lengths = rows.others.get("lengths")
        if rows.x.ndim != 2 or lengths is None or lengths.shape[:1] != rows.x.shape[:1]:
            raise ShapeError(
                "train_step: expected x of shape (B, W) and the lengths of each row's K texts, of "
                f"shape (B, K), got {rows.x.shape} and "
                f"{None if lengths is None else lengths.shape}; give Rows with others['lengths']"
            )
        told = counts_of_ranks(self.parts.communicator, (int(lengths.sum()), len(rows.x)))
        given = self.parts.reduction.share.whole([rows_of for _, rows_of in told])
        if given == 0:
            raise DataError("train_step: there is no example to learn from")
        return given, sum(tokens for tokens, _ in told)

    def located(self, fault: Fault, rows: int) -> Fault:
        """Return a fault without row and token, since texts of several examples share rows.

        The passes of an update are counted through: from the second micro-batch to the last, the
        first, and again from the second.
        """
        passes = -(-rows // self.config.batch_size)
        number = None if fault.micro_batch is None else (fault.micro_batch + 1) % max(1, passes)
        return replace(fault, row=None, token=None, micro_batch=number)

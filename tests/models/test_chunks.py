"""Chunks of rows: many threads take more rows at once, with the same bits."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm import Transformer, TransformerConfig, ops
from tisslm.contracts import Batch, target_weights
from tisslm.models.layers import chunks
from tisslm.optim.losses import CrossEntropy


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = ops.thread_count().count
    yield
    ops.set_threads(before)


#: Elsewhere products are another library's, and chunks are the same for any number of threads.
OURS = ops.engine().get("isa", "baseline") != "baseline"


def pass_of(threads: int) -> tuple[float, bytes, dict[str, int]]:
    """Return the loss and the gradients of 300 rows, and the buffers' sizes."""
    ops.set_threads(threads)
    shape = {"n_layer": 1, "n_head": 2, "n_embd": 32, "seq_len": 60, "vocab_size": 13}
    model = Transformer(TransformerConfig(**shape), seed=1)
    model.head.chunk = 32
    ids = np.random.default_rng(5).integers(0, 13, (5, 60), dtype=np.int32)
    loss = model.step_loss(Batch(ids, ids, target_weights(ids, np.float32)), CrossEntropy())
    return float(loss), model.parameters.grad.tobytes(), model.plan(5, 60)


@pytest.mark.skipif(ops.REFERENCE_ONLY, reason="the twins have no threads")
def test_bits_do_not_depend_on_how_many_rows_are_a_chunk(monkeypatch):
    monkeypatch.setattr("tisslm.models.layers.mlp.CHUNK", 64)
    monkeypatch.setattr("tisslm.models.layers.attention.CHUNK", 64)
    few, many = pass_of(1), pass_of(24)
    assert few[:2] == many[:2]
    taken = [sum(one[2].values()) for one in (few, many)]
    assert taken[0] < taken[1] if OURS else taken[0] == taken[1]  # and what it takes is planned


def test_many_threads_take_more_rows_at_once():
    ops.set_threads(15)
    assert chunks.rows_at_once(chunks.CHUNK, "float32") == chunks.CHUNK
    ops.set_threads(48)
    assert chunks.rows_at_once(chunks.CHUNK, "float32") == (6 if OURS else 1) * chunks.CHUNK
    assert chunks.rows_at_once(128, "float32", at_most=4) == (512 if OURS else 128)
    assert chunks.rows_at_once(128, "float64") == 128
    assert list(chunks.chunks(5, 2)) == [slice(0, 2), slice(2, 4), slice(4, 5)]


@pytest.mark.parametrize(("vocab", "rows"), [(50304, 256), (131072, 256), (65, 512)])
def test_a_large_vocabulary_is_projected_for_no_fewer_rows(vocab, rows):
    ops.set_threads(2)
    shape = {"n_layer": 1, "n_head": 1, "n_embd": 8, "seq_len": 512, "vocab_size": vocab}
    model = Transformer.of_shapes(TransformerConfig(**shape))
    assert model.head.plan(512)["logits"].shape == (rows, vocab)

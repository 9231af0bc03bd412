"""Models whose tokens see later ones, too: what they compute, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from packing import starts_of_lengths
from tolerances import largest_error

from tisslm import Transformer, TransformerConfig, ops
from tisslm.contracts import Batch, PassContext
from tisslm.errors import ConfigError, ShapeError
from tisslm.memory import Parameters
from tisslm.models.body.stack import Stack
from tisslm.optim.losses.cross_entropy import CrossEntropy

SHAPE = {"n_layer": 2, "n_head": 4, "n_embd": 32, "seq_len": 100, "vocab_size": 13}
LENGTHS = [[20, 30, 7, 43], [64, 1, 35]]


def make(precision: str = "fp32", recompute: str = "none", **keys) -> Transformer:
    model = Transformer(TransformerConfig(**{**SHAPE, "causal": False, **keys}), seed=5)
    model.prepare(precision=precision, activation_checkpointing=recompute)
    return model


def packed() -> Batch:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 13, (2, 2, 100))
    start = np.stack([starts_of_lengths(row) for row in LENGTHS])
    return Batch(x, y, np.full(x.shape, 1 / x.size), start)


def test_a_token_sees_later_ones_of_its_document_and_no_other():
    model, batch = make(), packed()
    before, _ = model.forward(batch.x_BT, start=batch.start_BT)
    batch.x_BT[0, 49] += 1 if batch.x_BT[0, 49] < 12 else -1  # the last of the second document
    after, _ = model.forward(batch.x_BT, start=batch.start_BT)
    differs = (before != after).any(axis=2)
    assert differs[0, 20:50].all()
    assert differs.sum() == 30


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_a_document_gives_what_it_gives_alone(positions):
    model, batch = make(positions=positions, n_kv_head=2), packed()
    together, _ = model.forward(batch.x_BT, start=batch.start_BT)
    for row, start in enumerate(batch.start_BT):
        for begin in np.unique(start):
            own = start == begin
            alone, _ = model.forward(batch.x_BT[row : row + 1, own])
            assert largest_error(together[row, own], alone[0]) < 1e-5


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_threads_and_checkpointing_change_no_bit(precision):
    def gradient(recompute: str):
        model = make(precision, recompute, dropout=0.3)
        loss = model.step_loss(packed(), CrossEntropy())
        return loss, model.parameters.grad.copy()

    before, expected = ops.thread_count().count, gradient("none")
    try:
        for count in (1, 2, 3):
            ops.set_threads(count)
            found = gradient("full")
            assert found[0] == expected[0]
            assert np.array_equal(found[1], expected[1]), count
    finally:
        ops.set_threads(before)


def test_the_plan_counts_the_stops_and_the_work_both_halves():
    both, causal = make(), make(causal=True)
    assert both.plan(4, 100)["stop"] == 4 * 100 * 4
    assert "stop" not in causal.plan(4, 100)
    more = both.flops_per_token(100) - causal.flops_per_token(100)
    assert more == 6 * 2 * 32 * 100


def test_writing_text_is_refused():
    with pytest.raises(ConfigError) as caught:
        make().decoder()
    assert str(caught.value) == (
        "model.causal: writing text needs true, got false: what a token has seen would change with "
        "every token after it. Use the model for vectors, or train one that is causal"
    )


def test_a_window_is_refused():
    with pytest.raises(ConfigError) as caught:
        TransformerConfig(**SHAPE, causal=False, window=8)
    assert str(caught.value) == (
        "model.window: expected 0 with causal = false, since published models do not agree on how "
        "far a window reaches to both sides, got 8; leave one of the two out"
    )


def test_a_layer_refuses_a_pass_that_does_not_say_where_documents_end():
    model = make()
    stack = Stack.build(model.config, model.parameters, model.precision)
    layer = stack.layers[0][1]
    arrays = {n: np.zeros(b.shape, b.dtype) for n, b in layer.plan((1, 5)).items()}
    with pytest.raises(ShapeError) as caught:
        layer.forward(
            np.zeros((5, 32), np.float32), arrays, arrays, PassContext(1, 5, False, 0, 0, 0)
        )
    assert str(caught.value) == (
        "attention that sees later tokens: expected a pass that says where each document ends, got "
        "none. Fill PassContext.stop_BT, with T where a row is one document"
    )


def test_parameters_are_those_of_the_causal_model():
    both, causal = make().parameters, make(causal=True).parameters
    assert isinstance(both, Parameters)
    assert both.data.tobytes() == causal.data.tobytes()

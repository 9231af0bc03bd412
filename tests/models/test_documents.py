"""A model on rows of several documents: each as if it were alone, on every path."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packing import starts_of, starts_of_lengths
from tolerances import MIXED_GRADIENT, MIXED_LOSS, WHOLE_MODEL, largest_error

from tisslm import Transformer, TransformerConfig, ops
from tisslm.contracts import IGNORE_INDEX, Batch, Model, target_weights
from tisslm.errors import ConfigError, DataError, ShapeError
from tisslm.optim.losses.cross_entropy import CrossEntropy

V, T = 29, 150
SIZES = {"n_layer": 2, "n_head": 4, "n_embd": 32, "seq_len": T, "vocab_size": V}

#: Lengths of the documents of each row.
LENGTHS = [[150], [64, 64, 22], [1, 65, 63, 1, 20], [7, 90, 13, 40]]


def make(dtype: str = "float32", precision: str = "fp32", **options: Any) -> Transformer:
    checkpointing = options.pop("activation_checkpointing", "none")
    model = Transformer(TransformerConfig(**{**SIZES, **options}), seed=5, dtype=dtype)
    # first values of learned positions are small; these make them count
    position = model.parameters["embedding.position.weight"].data
    position[...] = np.random.default_rng(3).normal(scale=0.5, size=position.shape)
    model.prepare(precision=precision, activation_checkpointing=checkpointing)
    return model


def packed(lengths: list[list[int]], seed: int = 0, scale: float = 1.0) -> Batch:
    """Rows of documents; a document's last token has no target. A scale keeps fp16 in range."""
    start = np.stack([starts_of_lengths(row) for row in lengths])
    x, y = np.random.default_rng(seed).integers(0, V, (2, *start.shape), dtype=np.int32)
    y[:, :-1] = x[:, 1:]
    y[:, :-1][start[:, 1:] != start[:, :-1]] = IGNORE_INDEX
    y[:, -1] = IGNORE_INDEX
    return Batch(x, y, target_weights(y, np.float64) * scale, start)


def documents(batch: Batch) -> list[Batch]:
    """Every document of a batch as a batch of its own, with the weights that it has there."""
    found = []
    for x, y, weights, start in zip(
        batch.x_BT, batch.y_BT, batch.weights_BT, batch.start_BT, strict=True
    ):
        for begin in np.unique(start):
            own = (start == begin).nonzero()[0]
            found.append(Batch(x[None, own], y[None, own], weights[None, own]))
    return found


def gradients(model: Transformer, batches: list[Batch]) -> tuple[list[float], dict[str, Any]]:
    model.parameters.zero_grad()
    losses = [model.step_loss(batch, CrossEntropy()) for batch in batches]
    return losses, {p.name: p.grad.copy() for p in model.parameters}


@pytest.mark.parametrize(
    ("dtype", "precision"),
    [("float64", "fp32"), ("float32", "fp32"), ("float32", "bf16"), ("float32", "fp16")],
)
@pytest.mark.parametrize(
    "options", [{}, {"n_kv_head": 2, "tie_embeddings": False, "bias": False}], ids=["gpt2", "other"]
)
def test_each_document_has_the_loss_and_the_gradients_that_it_has_alone(dtype, precision, options):
    model = make(dtype, precision, **options)
    batch = packed(LENGTHS, scale=1024.0 if precision == "fp16" else 1.0)
    losses, expected = gradients(model, documents(batch))
    (together,), found = gradients(model, [batch])
    loss_bound, bound = 1e-6, WHOLE_MODEL / 2
    if precision != "fp32":
        loss_bound, bound = MIXED_LOSS[precision], MIXED_GRADIENT[precision]
    elif dtype == "float64":
        loss_bound = bound = 1e-12
    assert together == pytest.approx(sum(losses), rel=loss_bound)
    for name, gradient in found.items():
        assert largest_error(gradient, expected[name]) < bound, name


def test_logits_are_those_of_the_document_alone_and_forward_has_the_gradients_of_step_loss():
    model, batch = make(), packed(LENGTHS)
    _, expected = gradients(model, [batch])
    model.parameters.zero_grad()
    logits, cache = model.forward(batch.x_BT, start=batch.start_BT)
    loss = CrossEntropy()
    loss.forward(logits, batch.y_BT)
    model.backward(loss.backward(), cache)
    for p in model.parameters:
        assert np.array_equal(p.grad, expected[p.name]), p.name
    for row, start in enumerate(batch.start_BT):
        for begin in np.unique(start):
            own = start == begin
            alone, _ = model.forward(batch.x_BT[row : row + 1, own])
            assert largest_error(logits[row, own], alone[0]) < 1e-5


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=8),
    seed=st.integers(0, 2**16),
)
def test_random_documents(lengths, seed):
    cut = np.minimum(np.cumsum(lengths), T)
    lengths = [int(n) for n in np.diff([0, *cut]) if n]
    model, batch = make(), packed([lengths], seed)
    losses, expected = gradients(model, documents(batch))
    (together,), found = gradients(model, [batch])
    assert together == pytest.approx(sum(losses), rel=1e-5, abs=1e-6)
    for name, gradient in found.items():
        assert largest_error(gradient, expected[name]) < WHOLE_MODEL, name


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_threads_and_checkpointing_change_no_bit(precision):
    before, batch = ops.thread_count().count, packed(LENGTHS)
    options = {"precision": precision, "dropout": 0.3}
    expected = gradients(make(**options), [batch])
    try:
        for count in (1, 2, 3, 5):
            ops.set_threads(count)
            found = gradients(make(**options, activation_checkpointing="full"), [batch])
            assert found[0] == expected[0]
            for name, gradient in found[1].items():
                assert np.array_equal(gradient, expected[1][name]), (name, count)
    finally:
        ops.set_threads(before)


def test_starts_of_zero_have_the_bits_of_none():
    batch = packed([[T], [T]])
    none = Batch(batch.x_BT, batch.y_BT, batch.weights_BT)
    (a, one), (b, other) = (gradients(make(dropout=0.3), [which]) for which in (batch, none))
    assert a == b
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_pass_without_starts_forgets_those_of_the_pass_before():
    model, batch = make(), packed(LENGTHS)
    plain, _ = model.forward(batch.x_BT)
    model.forward(batch.x_BT, start=batch.start_BT)
    assert np.array_equal(model.forward(batch.x_BT)[0], plain)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int32])
def test_any_integers_will_do_and_are_copied(dtype):
    model, batch = make(), packed(LENGTHS)
    expected, _ = model.forward(batch.x_BT, start=batch.start_BT)
    start = batch.start_BT.astype(dtype)
    logits, cache = model.forward(batch.x_BT, start=start)
    assert np.array_equal(logits, expected)
    start[...] = 0  # before backward
    model.backward(np.ones_like(logits), cache)
    gradient = model.parameters.grad.copy()
    model.parameters.zero_grad()
    logits, cache = model.forward(batch.x_BT, start=batch.start_BT)
    model.backward(np.ones_like(logits), cache)
    assert np.array_equal(model.parameters.grad, gradient)


def test_the_plan_counts_the_starts():
    assert make().plan(4, T)["start"] == 4 * T * 4


@pytest.mark.parametrize(
    ("row", "place", "value", "said"),
    [
        (1, 0, 1, "expected 0 at row 1, position 0, got 1"),
        (0, 9, 4, "expected 0 (as before it) or 9 (a document begins) at row 0, position 9, got 4"),
        (0, 9, 10, "expected 0 (as before it) or 9 (a document begins) at row 0, position 9, got"),
        (1, 5, -1, "expected 0 (as before it) or 5 (a document begins) at row 1, position 5, got"),
        (1, 40, 0, "expected 30 (as before it) or 40 (a document begins) at row 1, position 40"),
    ],
)
def test_a_wrong_start_is_named(row, place, value, said):
    model = make()
    start = np.stack([np.zeros(50, np.int64), starts_of_lengths([30, 20])])
    start[row, place] = value
    with pytest.raises(DataError) as caught:
        model.forward(np.zeros((2, 50), np.int32), start=start)
    assert str(caught.value).startswith(f"start: {said}")
    assert str(caught.value).endswith(
        "It is the position in the row at which the token's document begins"
    )


@pytest.mark.parametrize(
    ("start", "got"),
    [
        (np.zeros((2, 49), np.int32), "int32 of shape (2, 49)"),
        (np.zeros(100, np.int32), "int32 of shape (100,)"),
        (np.zeros((2, 50)), "float64 of shape (2, 50)"),
        ([[0] * 50] * 2, "list"),
    ],
)
def test_what_is_no_array_of_starts_is_refused(start, got):
    with pytest.raises(ShapeError) as caught:
        make().forward(np.zeros((2, 50), np.int32), start=start)
    assert str(caught.value) == (
        "start: expected integers of the tokens' shape (2, 50), the position in its row at which "
        f"the document of each token begins, got {got}"
    )


def test_all_starts_that_are_drawn_are_right():
    """So the tests' own rows are rows of documents."""
    start = starts_of(1, 6, 50)
    make().forward(np.zeros((6, 50), np.int32), start=start)
    assert 6 < sum(len(np.unique(row)) for row in start) < 250


class Plain(Model):
    """A model that knows nothing of documents."""

    vocab_size = seq_len = 50

    def forward(self, x, *, train=False, start=None):
        return x, None

    def backward(self, d_logits, cache):
        pass

    def step_loss(self, batch, loss, *, gradient=True, train=True, first_row=0):
        return 0.0


def test_a_model_that_does_not_keep_documents_apart_says_so():
    model = Plain()
    model.check_start(None, (2, 50))
    with pytest.raises(ConfigError) as caught:
        model.check_start(np.zeros((2, 50), np.int32), (2, 50))
    assert str(caught.value) == (
        "model Plain: it does not keep the documents of a row apart (takes_documents is False). "
        "Use data of one document per row, or a model that does, such as Transformer"
    )

"""Observers of passes: every part is announced, in order, with what it leaves."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm import Transformer, TransformerConfig
from tisslm.contracts import Batch, PassObserver, target_weights
from tisslm.optim.losses.cross_entropy import CrossEntropy

SIZES = {"n_layer": 2, "n_head": 2, "n_embd": 16, "seq_len": 8, "vocab_size": 11}
BLOCKS = [f"blocks.{i}.{part}" for i in range(2) for part in ("attention", "mlp")]


class Noting(PassObserver):
    def __init__(self) -> None:
        self.begun: list = []
        self.done: list = []
        self.arrays: dict = {}

    def enter(self, place, direction):
        self.begun.append((place, direction))

    def leave(self, place, direction, arrays):
        self.done.append((place, direction))
        self.arrays[place, direction] = {name: a.copy() for name, a in arrays.items()}


def make(checkpointing: str = "none") -> Transformer:
    model = Transformer(TransformerConfig(**SIZES), seed=3)
    model.prepare(activation_checkpointing=checkpointing)
    return model


def batch() -> Batch:
    x = np.arange(16).reshape(2, 8) % 11
    return Batch(x, (x + 1) % 11, target_weights(x, np.float64))


def forward(places):
    return [(place, "forward") for place in places]


def backward(places):
    return [(place, "backward") for place in reversed(places)]


def test_a_step_announces_every_part_in_order():
    model, seen = make(), Noting()
    with model.observed(seen):
        model.step_loss(batch(), CrossEntropy())
    expected = [
        *forward(["embedding", *BLOCKS, "final_norm", "head"]),
        *backward(["embedding", *BLOCKS, "final_norm", "head"]),
    ]
    assert seen.begun == seen.done == expected
    model.step_loss(batch(), CrossEntropy())
    assert seen.begun == expected
    assert model.observers == ()


def test_the_loop_of_ones_own_announces_the_same():
    model, step, own = make(), Noting(), Noting()
    part = batch()
    with model.observed(step):
        model.step_loss(part, CrossEntropy())
    loss = CrossEntropy()
    with model.observed(own):
        logits, cache = model.forward(part.x_BT)
        loss.forward(logits, part.y_BT)
        model.backward(loss.backward(), cache)
    assert own.begun == step.begun


def test_recomputed_layers_are_announced_as_such_and_have_the_bits_of_the_first_forward():
    model, seen = make("full"), Noting()
    with model.observed(seen):
        model.step_loss(batch(), CrossEntropy())
    again = [
        ("blocks.1.attention", "recompute"),
        ("blocks.1.mlp", "recompute"),
        ("blocks.1.mlp", "backward"),
        ("blocks.1.attention", "backward"),
    ]
    first = seen.begun.index(again[0])
    assert seen.begun[first : first + 4] == again
    for name in ("x", "pre"):
        kept = [seen.arrays["blocks.0.mlp", way][name] for way in ("forward", "recompute")]
        assert np.array_equal(*kept)


def test_what_a_part_leaves():
    model, seen = make(), Noting()
    with model.observed(seen):
        model.step_loss(batch(), CrossEntropy())
    names = {key: set(arrays) for key, arrays in seen.arrays.items()}
    assert names["embedding", "forward"] == {"tokens", "stream"}
    assert {"x", "qkv", "heads", "lse", "stream"} <= names["blocks.0.attention", "forward"]
    assert {"x", "pre", "stream"} <= names["blocks.1.mlp", "forward"]
    assert names["final_norm", "forward"] == {"norm_mean", "norm_rstd", "hidden", "stream"}
    assert names["head", "forward"] == {"hidden"}
    assert names["head", "backward"] == {"d_hidden"}
    assert "d_stream" in names["blocks.0.mlp", "backward"]
    stream = seen.arrays["blocks.0.attention", "forward"]["stream"]
    assert np.array_equal(stream, seen.arrays["blocks.0.mlp", "forward"]["x"])


def test_what_an_observer_raises_ends_the_pass_and_it_is_told_no_more():
    class Refusing(PassObserver):
        def enter(self, place, direction):
            if place == "final_norm":
                raise ValueError("enough")

    model = make()
    with pytest.raises(ValueError, match="enough"), model.observed(Refusing()):
        model.step_loss(batch(), CrossEntropy())
    model.step_loss(batch(), CrossEntropy())


@pytest.mark.parametrize("checkpointing", ["none", "full"])
def test_observers_change_no_bit(checkpointing):
    plain, watched = make(checkpointing), make(checkpointing)
    expected = plain.step_loss(batch(), CrossEntropy())
    with watched.observed(Noting()):
        assert watched.step_loss(batch(), CrossEntropy()) == expected
    assert np.array_equal(plain.parameters.grad, watched.parameters.grad)

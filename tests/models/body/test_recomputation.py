"""Activation checkpointing: the same bits from less memory, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisslm import Transformer, TransformerConfig
from tisslm.contracts import Batch, Loss, Model, target_weights
from tisslm.errors import ConfigError, ShapeError
from tisslm.models.body.recomputation import Recomputation
from tisslm.models.generation import Sampling, generate
from tisslm.optim.losses.cross_entropy import CrossEntropy

SIZES = {"n_layer": 5, "n_head": 4, "n_embd": 32, "seq_len": 20, "vocab_size": 13, "dropout": 0.3}
SETTINGS = ["full", "every=2", "every=3", "every=5", "every=9"]
#: (dtype of the model, precision of its passes)
TYPES = [("float32", "fp32"), ("float64", "fp32"), ("float32", "bf16"), ("float32", "fp16")]


@pytest.fixture
def make() -> Callable[..., Transformer]:
    def build(
        setting: str = "none", dtype: str = "float32", precision: str = "fp32", **shape: Any
    ) -> Transformer:
        model = Transformer(TransformerConfig(**{**SIZES, **shape}), seed=5, dtype=dtype)
        model.prepare(precision=precision, activation_checkpointing=setting)
        return model

    return build


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets of which some rows have few."""
    x = np.random.default_rng(11).integers(0, 13, (4, 20))
    y = np.roll(x, -1, axis=1)
    y[1, :7] = y[2] = -100
    return x, y


def accumulate(model: Transformer, x: np.ndarray, y: np.ndarray, rows: int) -> float:
    """Add the gradients of a whole update, ``rows`` rows at a time."""
    weights, total = target_weights(y, np.float64), 0.0
    for first in range(0, len(x), rows):
        part = slice(first, first + rows)
        batch = Batch(x[part], y[part], weights[part])
        total += model.step_loss(batch, CrossEntropy(), first_row=first)
    return total


def same_gradients(a: Transformer, b: Transformer) -> None:
    for p, q in zip(a.parameters, b.parameters, strict=True):
        assert np.array_equal(p.grad, q.grad), p.name


@pytest.mark.parametrize(("dtype", "precision"), TYPES)
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("rows", [4, 3, 1])
def test_loss_and_gradients_have_the_same_bits(make, pair, setting, dtype, precision, rows):
    plain, model = make("none", dtype, precision), make(setting, dtype, precision)
    assert accumulate(model, *pair, rows) == accumulate(plain, *pair, rows)
    same_gradients(model, plain)


@pytest.mark.parametrize(
    "shape",
    [
        {"dropout": 0.0, "bias": False},
        {"n_kv_head": 2, "tie_embeddings": False, "n_hidden": 48},
        {"n_layer": 1, "n_embd": 8, "n_head": 1, "seq_len": 600, "vocab_size": 66_000},
        {"n_layer": 2, "n_embd": 24, "n_head": 2, "seq_len": 600},
    ],
    ids=str,
)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_shape_has_the_same_bits(make, shape, precision):
    """Among them many chunks of logits, and more rows than one chunk of the MLP."""
    plain, model = (make(s, precision=precision, **shape) for s in ("none", "full"))
    config = plain.config
    x, y = np.random.default_rng(2).integers(0, config.vocab_size, (2, 2, config.seq_len))
    assert accumulate(model, x, y, 2) == accumulate(plain, x, y, 2)
    same_gradients(model, plain)


@pytest.mark.parametrize(("dtype", "precision"), TYPES)
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_custom_path_has_the_same_bits(make, pair, setting, dtype, precision):
    found = []
    for model in (make("none", dtype, precision), make(setting, dtype, precision)):
        x, y = pair
        for part in (slice(0, 3), slice(3, 4)):  # the second draws its rows' own dropout
            loss = CrossEntropy()
            logits, cache = model.forward(x[part], train=True)
            found.append((logits, loss.forward(logits, y[part])))
            model.backward(loss.backward(), cache)
        found.append(model)
    plain, other = found[:3], found[3:]
    for (a, m), (b, n) in zip(plain[:2], other[:2], strict=True):
        assert np.array_equal(a, b)
        assert m == n
    same_gradients(plain[2], other[2])


class HiddenSquare(Loss):
    """Half the square of the hidden states, weighted per target."""

    needs = "hidden"

    def whole(self, hidden_BTC, batch):
        weights = batch.weights_BT[..., None]
        return float((0.5 * weights * hidden_BTC**2).sum()), weights * hidden_BTC


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_loss_of_hidden_states_has_the_same_bits(make, pair, precision):
    plain, model = (make(setting, precision=precision) for setting in ("none", "full"))
    x, y = pair
    batch = Batch(x, y, target_weights(y, np.float32))
    assert model.step_loss(batch, HiddenSquare()) == plain.step_loss(batch, HiddenSquare())
    same_gradients(model, plain)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["none", *SETTINGS, None]),  # None: as it is
            st.sampled_from(["fp32", "bf16", "fp16"]),
            st.integers(1, 4),
            st.integers(1, 20),
            st.booleans(),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_settings_shapes_and_evaluations_may_alternate(passes):
    shape = TransformerConfig(**{**SIZES, "n_layer": 3})
    plain, model = Transformer(shape, seed=5), Transformer(shape, seed=5)
    for n, (setting, precision, rows, time, gradient) in enumerate(passes):
        if setting is not None:
            plain.prepare(precision=precision)
            model.prepare(precision=precision, activation_checkpointing=setting)
        x, y = np.random.default_rng(n).integers(0, 13, (2, rows, time))
        batch = Batch(x, y, target_weights(y, np.float32))
        options = {"gradient": gradient, "train": gradient}
        found = [m.step_loss(batch, CrossEntropy(), **options) for m in (plain, model)]
        assert found[0] == found[1]
    same_gradients(model, plain)


def test_the_plan_keeps_what_is_promised(make):
    """A recomputed block keeps the stream before it; the rest is once, for all blocks."""
    names = {s: set(make(s).plan(2, 20)) for s in ("none", "full", "every=2")}
    layers = {s: {n for n in found if n.startswith("layers.")} for s, found in names.items()}
    assert layers["full"] == {f"layers.{2 * i}.stream" for i in range(5)}
    assert {n for n in layers["every=2"] if n.endswith("stream")} == {
        "layers.2.stream",
        "layers.6.stream",
    }
    kept = {n.split(".")[1] for n in layers["every=2"] if not n.endswith("stream")}
    assert kept == {"0", "1", "4", "5", "8", "9"}
    assert not {n for n in layers["none"] if n.endswith("stream")}
    assert names["none"] - layers["none"] == names["full"] - layers["full"]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("setting", ["none", *SETTINGS])
def test_the_plan_is_the_size_of_the_workspace(make, pair, setting, precision):
    model = make(setting, precision=precision)
    model.forward(pair[0])
    assert model.body.memory.workspace is not None
    assert model.body.memory.workspace.sizes == model.plan(4, 20)


def test_full_checkpointing_takes_a_third_or_less(make):
    """At GPT-2's proportions; twelve blocks of C = 768, four windows of 256."""
    shape = {"n_layer": 12, "n_head": 12, "n_embd": 768, "seq_len": 256, "vocab_size": 50_304}
    model, sizes = make(**shape), {}
    for setting in ("none", "every=4", "every=3", "every=2", "full"):
        model.prepare(activation_checkpointing=setting)
        sizes[setting] = sum(model.plan(4, 256).values())
    assert sizes["full"] <= sizes["none"] / 3
    assert sorted(sizes.values(), reverse=True) == list(sizes.values())


def test_buffers_that_live_at_one_time_share_no_bytes(make, pair):
    model = make("every=2")
    buffers = model.body.buffers(*pair[0].shape)
    for block in buffers.blocks:
        saved = [a for i in block.layers for a in buffers.saved[i].values()]
        for i in block.layers:
            alive = [*saved, *buffers.scratch[i].values()]
            alive += [buffers.own[name] for name in ("tokens", "targets", "weights", "h", "dh")]
            alive += [other.stream for other in buffers.blocks if other.stream is not None]
            for n, a in enumerate(alive):
                assert a.ctypes.data % 64 == 0
                assert not any(np.shares_memory(a, b) for b in alive[n + 1 :])
    own = list(buffers.own.values())
    for n, a in enumerate(own):
        assert not any(np.shares_memory(a, b) for b in own[n + 1 :])


def test_generation_is_the_same(make):
    plain, model = make(), make("full")
    sampling = Sampling(seed=3)
    assert generate(model, [1, 2], 30, sampling) == generate(plain, [1, 2], 30, sampling)


def test_a_pass_without_gradient_runs_nothing_twice_and_keeps_no_stream(make, pair, monkeypatch):
    model = make("full")
    x, y = pair
    batch, calls = Batch(x, y, target_weights(y, np.float32)), []
    for layer in model.layers:
        forward = layer.forward
        monkeypatch.setattr(
            layer, "forward", lambda *a, forward=forward: (calls.append(1), forward(*a))[1]
        )
    model.step_loss(batch, CrossEntropy(), gradient=False, train=False)
    assert len(calls) == len(model.layers)
    assert not any(block.stream.any() for block in model.body.buffers(*x.shape).blocks)
    model.step_loss(batch, CrossEntropy())
    assert len(calls) == len(model.layers) * (1 + 1 + 0.5)  # the MLP's is not run to its end


def test_preparing_touches_no_parameter_and_makes_caches_stale(make, pair):
    model = make()
    batch = Batch(*pair, target_weights(pair[1], np.float32))
    model.step_loss(batch, CrossEntropy())
    data, grad = model.parameters.data.copy(), model.parameters.grad.copy()
    logits, cache = model.forward(pair[0])
    model.prepare(activation_checkpointing="full")
    assert model.body.memory.workspace is None
    with pytest.raises(ShapeError, match="this cache is stale"):
        model.backward(logits, cache)
    assert np.array_equal(model.parameters.data, data)
    assert np.array_equal(model.parameters.grad, grad)


def test_a_cache_is_good_for_one_backward(make, pair):
    """Backward has used up the streams that it would start from."""
    model = make("full")
    logits, cache = model.forward(pair[0], train=True)
    model.backward(logits, cache)
    with pytest.raises(ShapeError, match="this cache is stale"):
        model.backward(logits, cache)


@pytest.mark.parametrize(
    "text", ["", "Full", "every=0", "every=", "every=-1", "every=1.5", 2, None]
)
def test_wrong_settings_are_refused_and_change_nothing(make, pair, text):
    model = make("full")
    logits, cache = model.forward(pair[0])
    with pytest.raises(ConfigError, match=r'expected "none", "full" or "every=N" with N >= 1, got'):
        model.prepare(activation_checkpointing=text)
    model.backward(logits, cache)  # which is not stale
    assert "layers.0.stream" in model.plan(1, 1)


def test_auto_is_not_for_models(make):
    with pytest.raises(ConfigError, match='"auto" is resolved by the Trainer, which knows'):
        make("auto")


def test_another_precision_is_refused(make):
    with pytest.raises(
        ConfigError, match=r"precision: expected one of fp32, bf16, fp16, got 'fp8'"
    ):
        make().prepare(precision="fp8")


@pytest.mark.parametrize(
    ("setting", "blocks"),
    [("none", []), ("full", [0, 1, 2, 3, 4]), ("every=1", [0, 1, 2, 3, 4]), ("every=2", [1, 3])],
)
def test_which_blocks_are_taken(setting, blocks):
    recomputation = Recomputation.parse(setting)
    assert [i for i in range(5) if recomputation.takes(i)] == blocks


class OwnModel(Model):
    """A model with the contract's own prepare."""

    vocab_size = seq_len = 1

    def forward(self, x, *, train=False):
        return x, None

    def backward(self, d_logits, cache):
        pass

    def step_loss(self, batch, loss, *, gradient=True, train=True, first_row=0):
        return 0.0


def test_a_model_without_prepare_takes_the_defaults_only():
    model = OwnModel()
    model.prepare(precision="fp32", activation_checkpointing="none")
    said = 'OwnModel has no prepare.. of its own: expected only the defaults "fp32", "none", got '
    with pytest.raises(ConfigError, match=rf"{said}.*'precision': 'bf16'"):
        model.prepare(precision="bf16")
    with pytest.raises(ConfigError, match=rf"{said}.*'activation_checkpointing': 'full'"):
        model.prepare(activation_checkpointing="full")

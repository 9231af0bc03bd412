"""The whole model: shapes, caches, tied gradients, decoding, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tolerances import WHOLE_MODEL

from tisslm import Sampling, Transformer, TransformerConfig
from tisslm.contracts import Batch, Loss, target_weights
from tisslm.errors import ConfigError, DataError, ShapeError
from tisslm.models.decoding import TransformerDecoder
from tisslm.models.generation import generate
from tisslm.optim.losses.cross_entropy import CrossEntropy

SIZES = {"n_layer": 2, "n_head": 4, "n_embd": 32, "seq_len": 20, "vocab_size": 13}


@pytest.fixture
def make() -> Callable[..., Transformer]:
    def build(dtype: str = "float32", seed: int = 5, **shape: Any) -> Transformer:
        return Transformer(TransformerConfig(**{**SIZES, **shape}), seed=seed, dtype=dtype)

    return build


@pytest.fixture
def ids() -> np.ndarray:
    return np.random.default_rng(11).integers(0, 13, (3, 20))


VARIANTS = [
    {},
    {"bias": False, "activation": "gelu_tanh"},
    {"n_kv_head": 2, "dropout": 0.3},
    {"tie_embeddings": False, "n_hidden": 48},
]


@pytest.mark.parametrize("shape", VARIANTS, ids=str)
def test_float32_gradients_are_those_of_float64(make, ids, shape):
    models = [make(dtype, **shape) for dtype in ("float32", "float64")]
    y = np.roll(ids, -1, axis=1)
    y[1, :7] = -100
    losses = [
        m.step_loss(Batch(ids, y, target_weights(y, np.float64)), CrossEntropy()) for m in models
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for p, q in zip(models[0].parameters, models[1].parameters, strict=True):
        scale = np.abs(q.grad).max()
        assert np.abs(p.grad - q.grad).max() <= WHOLE_MODEL * scale, p.name


@pytest.mark.parametrize("shape", VARIANTS, ids=str)
def test_the_custom_path_has_the_bits_of_the_training_path(make, ids, shape):
    model, y = make(**shape), np.roll(ids, -1, axis=1)
    expected = model.step_loss(Batch(ids, y, target_weights(y, np.float64)), CrossEntropy())
    gradients = [p.grad.copy() for p in model.parameters]
    model.parameters.zero_grad()
    loss = CrossEntropy()
    logits, cache = model.forward(ids, train=True)
    assert loss.forward(logits, y) == expected
    model.backward(loss.backward(), cache)
    for parameter, gradient in zip(model.parameters, gradients, strict=True):
        assert np.array_equal(parameter.grad, gradient), parameter.name


def test_many_chunks_of_logits_have_the_bits_of_the_custom_path(make):
    shape = {"vocab_size": 66_000, "n_layer": 1, "n_embd": 8, "n_head": 1, "seq_len": 100}
    model = make(**shape)
    x, y = np.random.default_rng(2).integers(0, 66_000, (2, 3, 100))
    expected = model.step_loss(Batch(x, y, target_weights(y, np.float64)), CrossEntropy())
    gradient = model.parameters["embedding.token.weight"].grad.copy()
    model.parameters.zero_grad()
    loss = CrossEntropy()
    logits, cache = model.forward(x)
    assert loss.forward(logits, y) == expected
    model.backward(loss.backward(), cache)
    assert np.array_equal(model.parameters["embedding.token.weight"].grad, gradient)


def test_gradients_accumulate_until_they_are_zeroed(make, ids):
    model, loss = make("float64"), CrossEntropy()
    batch = Batch(ids, ids, target_weights(ids, np.float64))
    model.step_loss(batch, loss)
    once = model.parameters.grad.copy()
    model.step_loss(batch, loss)
    np.testing.assert_allclose(model.parameters.grad, 2 * once, rtol=1e-12, atol=1e-18)
    model.parameters.zero_grad()
    assert not model.parameters.grad.any()


def test_reading_one_gradient_early_spoils_no_other(make, ids):
    model, loss = make(), CrossEntropy()
    batch = Batch(ids, ids, target_weights(ids, np.float64))
    model.step_loss(batch, loss)
    expected = model.parameters.grad.copy()
    model.parameters.zero_grad()
    for name in ("blocks.0.mlp.up.weight", "blocks.1.attention.norm.bias"):
        assert not model.parameters[name].grad.any()
    model.step_loss(batch, loss)
    assert np.array_equal(model.parameters.grad, expected)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros((3, 20)), "targets: expected integer token ids, got float64"),
        (np.full((3, 20), 2**32 + 5), "expected -100 or ids of the vocabulary, got 4294967301"),
    ],
)
def test_targets_are_checked_on_both_paths(make, ids, y, message):
    model, weights = make(), np.full((3, 20), 1 / 60)
    with pytest.raises(DataError, match=message):
        model.step_loss(Batch(ids, y, weights), CrossEntropy())
    with pytest.raises(DataError, match=message):
        CrossEntropy().forward(np.zeros((3, 20, 13), np.float32), y)


def test_no_token_sees_a_later_one(make, ids):
    model = make()
    logits, _ = model.forward(ids)
    changed = ids.copy()
    changed[:, 12:] = (changed[:, 12:] + 1) % 13
    again, _ = model.forward(changed)
    assert np.array_equal(logits[:, :12], again[:, :12])
    assert not np.allclose(logits[:, 12:], again[:, 12:])


def test_a_stale_cache_is_refused(make, ids):
    model = make()
    logits, cache = model.forward(ids)
    model.forward(ids)
    with pytest.raises(ShapeError, match="this cache is stale"):
        model.backward(logits, cache)
    logits, cache = model.forward(ids)
    model.backward(logits, cache)
    with pytest.raises(ShapeError, match="this cache is stale"):
        model.backward(logits, cache)


def test_smaller_batches_use_the_workspace_of_larger_ones(make, ids):
    model = make()
    expected, _ = make().forward(ids[:1, :5])
    model.forward(ids)
    workspace = model.body.memory.workspace
    logits, _ = model.forward(ids[:1, :5])
    assert model.body.memory.workspace is workspace
    assert np.array_equal(logits, expected)


def test_the_plan_is_the_size_of_the_workspace(make, ids):
    model = make()
    model.forward(ids)
    assert model.body.memory.workspace is not None
    assert sum(model.plan(3, 20).values()) == model.body.memory.workspace.nbytes


def test_first_values_follow_gpt2_and_the_seed(make):
    model, again, other = make(), make(), make(seed=6)
    get = model.parameters
    assert get["blocks.0.mlp.up.weight"].data.std() == pytest.approx(0.02, rel=0.05)
    assert get["blocks.0.mlp.down.weight"].data.std() == pytest.approx(0.01, rel=0.05)
    assert not get["blocks.0.mlp.up.bias"].data.any()
    assert (get["final_norm.weight"].data == 1).all()
    assert np.array_equal(get.data, again.parameters.data)
    assert not np.array_equal(get.data, other.parameters.data)


def test_parameters_of_one_size_do_not_depend_on_the_others(make):
    shallow, deep = make(n_layer=1), make(n_layer=3)
    name = "blocks.0.attention.qkv.weight"
    assert np.array_equal(shallow.parameters[name].data, deep.parameters[name].data)


@pytest.mark.parametrize("shape", VARIANTS, ids=str)
def test_decoding_step_by_step_gives_the_logits_of_the_whole(make, ids, shape):
    model = make("float64", **shape)
    expected, _ = model.forward(ids)
    decoder = TransformerDecoder(model)
    found = [decoder.prefill(ids[:, :6])]
    found += [decoder.step(ids[:, t]) for t in range(6, 20)]
    np.testing.assert_allclose(np.stack(found, axis=1), expected[:, 5:], atol=1e-12)
    with pytest.raises(ShapeError, match="the context of 20 tokens is full"):
        decoder.step(ids[:, 0])


def test_generation_is_a_function_of_the_seed_and_goes_past_the_context(make):
    model = make()
    first = generate(model, [1, 2], 50, Sampling(seed=3))
    assert first == generate(model, [1, 2], 50, Sampling(seed=3))
    assert first != generate(model, [1, 2], 50, Sampling(seed=4))
    assert len(first) == 50
    assert all(0 <= token < 13 for token in first)


def test_temperature_zero_and_top_k_one_take_the_most_probable(make):
    model = make()
    greedy = generate(model, [5], 30, Sampling(temperature=0.0))
    assert greedy == generate(model, [5], 30, Sampling(top_k=1))
    assert greedy == generate(model, [5], 30, Sampling(top_p=1e-9))


@pytest.mark.parametrize("uniform", [0.0, 0.35, 0.69, 0.9999])
def test_top_p_keeps_the_smallest_set_that_reaches_it(uniform):
    logits = np.log(np.array([0.1, 0.5, 0.3, 0.1]))
    assert Sampling(top_p=0.7).choose(logits, uniform) in {1, 2}
    assert Sampling(top_k=2).choose(logits, uniform) in {1, 2}
    assert Sampling().choose(logits, 0.45) == 1
    assert Sampling().choose(logits, 0.95) in {0, 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature: expected a number >= 0, got -1.0"),
        ({"top_k": -1}, "top_k: expected an integer >= 0, got -1"),
        ({"top_p": 0.0}, r"top_p: expected a number in \(0, 1\], got 0.0"),
    ],
)
def test_sampling_refuses(options, message):
    with pytest.raises(ConfigError, match=message):
        Sampling(**options)


def test_generation_needs_a_prompt(make):
    with pytest.raises(DataError, match="the prompt is empty"):
        generate(make(), [], 5)


class HiddenNorm(Loss):
    """Half the mean square of the hidden states, weighted per target."""

    needs = "hidden"

    def whole(self, hidden_BTC, batch):
        weights = batch.weights_BT[..., None]
        return float((0.5 * weights * hidden_BTC**2).sum()), weights * hidden_BTC


def test_a_loss_of_hidden_states_reaches_every_parameter_below(make, ids):
    model = make("float64")
    batch = Batch(ids, ids, target_weights(ids, np.float64))
    loss = HiddenNorm()
    model.step_loss(batch, loss)
    parameter = model.parameters["blocks.0.mlp.up.weight"]
    slope = parameter.grad[3, 4]
    values = []
    for step in (1e-5, -2e-5):
        parameter.data[3, 4] += step
        values.append(model.step_loss(batch, loss, gradient=False))
    assert (values[0] - values[1]) / 2e-5 == pytest.approx(slope, rel=1e-5)
    with pytest.raises(ConfigError, match="HiddenNorm works on hidden states, not on logits"):
        loss.forward(np.zeros((1, 1, 13)), ids[:1, :1])


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((2, 21), int), ShapeError, "expected sequences of at most 20 tokens"),
        (np.zeros(5, int), ShapeError, r"integer token ids of shape \(B, T\), got int64 of shape"),
        (np.zeros((2, 3)), ShapeError, "got float64 of shape"),
        (np.zeros((0, 3), int), ShapeError, r"got int64 of shape \(0, 3\)"),
        ([[1, 2]], ShapeError, "got list"),
        (np.full((1, 2), 13), DataError, "expected ids from 0 to 12, got 13 at row 0, position 0"),
        (np.full((1, 2), -1), DataError, "got -1 at row 0, position 0. Use the tokenizer"),
        (np.full((1, 2), 2**32), DataError, "expected ids below 13, got 4294967296"),
    ],
)
def test_wrong_inputs_are_refused(make, x, error, message):
    with pytest.raises(error, match=message):
        make().forward(x)


def test_wrong_gradients_are_refused(make, ids):
    model = make()
    logits, cache = model.forward(ids)
    with pytest.raises(ShapeError, match=r"expected d_logits of shape \(3, 20, 13\) float32"):
        model.backward(logits.astype(np.float64), cache)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"n_embd": 30}, "model.n_embd: expected a multiple of n_head = 4, got 30"),
        ({"n_kv_head": 3}, "model.n_kv_head: expected a divisor of n_head = 4, got 3"),
        ({"n_layer": 0}, "model.n_layer: expected an integer >= 1, got 0"),
        ({"dropout": 1.0}, r"model.dropout: expected a number in \[0, 1\), got 1.0"),
        ({"n_layers": 2}, "model: unknown key 'n_layers'. Known: .* Did you mean 'n_layer'"),
        ({"activation": "relu"}, "model.activation: expected one of gelu, gelu_tanh, silu"),
    ],
)
def test_wrong_shapes_of_a_model_are_refused(make, shape, message):
    with pytest.raises(ConfigError, match=message):
        make(**shape)


def test_presets():
    config = TransformerConfig.preset("gpt2")
    assert (config.n_hidden, config.head_dim) == (3072, 64)
    with pytest.raises(ConfigError, match=r"unknown preset 'gpt3'.*Did you mean 'gpt2'"):
        TransformerConfig.preset("gpt3")
    with pytest.raises(ConfigError, match=r"model.vocab_size: a value is needed"):
        TransformerConfig.preset("char")
    with pytest.raises(ConfigError, match="expected dtype 'float32' or 'float64', got 'int8'"):
        Transformer(TransformerConfig(**SIZES), dtype="int8")

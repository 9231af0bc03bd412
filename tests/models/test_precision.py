"""Mixed precision of the whole model: close to fp32, at every level, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tolerances import MIXED_GRADIENT, MIXED_LOSS, largest_error

from tisslm import Sampling, TokenDataset, Transformer, TransformerConfig, ops
from tisslm.contracts import Batch, Loss, target_weights
from tisslm.errors import ConfigError, ShapeError
from tisslm.models.decoding import TransformerDecoder
from tisslm.models.generation import generate
from tisslm.optim.losses.cross_entropy import CrossEntropy
from tisslm.training.evaluation import evaluate

SIZES = {"n_layer": 2, "n_head": 4, "n_embd": 32, "seq_len": 20, "vocab_size": 13}
MIXED = ["bf16", "fp16"]
STORED = {"bf16": "uint16", "fp16": "float16"}
#: What the loss is multiplied by, so that fp16 has its gradients in range.
SCALE = {"fp32": 1.0, "bf16": 1.0, "fp16": 1024.0}
VARIANTS = [
    {},
    {"bias": False, "activation": "gelu_tanh"},
    {"n_kv_head": 2, "dropout": 0.3},
    {"tie_embeddings": False, "n_hidden": 48},
    {"n_layer": 1, "n_head": 1, "n_embd": 24, "seq_len": 600},
]


def build(precision: str, shape: dict[str, Any], dtype: str = "float32") -> Transformer:
    """Make a model whose parameters are far from their first values: nothing is nearly linear."""
    model = Transformer(TransformerConfig(**{**SIZES, **shape}), seed=5, dtype=dtype)
    rng = np.random.default_rng(1)
    for parameter in model.parameters:
        parameter.data[...] += rng.normal(scale=0.15, size=parameter.shape)
    model.prepare(precision=precision)
    return model


def window(model: Transformer, rows: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets of which one row has few."""
    shape = (rows, model.seq_len)
    x = np.random.default_rng(11).integers(0, model.vocab_size, shape)
    y = np.roll(x, -1, axis=1)
    y[1, :7] = -100
    return x, y


def loss_and_gradients(precision: str, shape: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """Run a training pass; the loss scale is divided out."""
    model, scale = build(precision, shape), SCALE[precision]
    x, y = window(model)
    loss = model.step_loss(Batch(x, y, target_weights(y, np.float64) * scale), CrossEntropy())
    return loss / scale, {p.name: p.grad / np.float32(scale) for p in model.parameters}


@pytest.fixture
def make() -> Callable[..., Transformer]:
    def make(precision: str = "bf16", dtype: str = "float32", **shape: Any) -> Transformer:
        return build(precision, shape, dtype)

    return make


@pytest.mark.parametrize("precision", MIXED)
@pytest.mark.parametrize("shape", VARIANTS, ids=str)
def test_loss_and_gradients_are_close_to_those_of_fp32(precision, shape):
    loss, gradients = loss_and_gradients(precision, shape)
    expected, exact = loss_and_gradients("fp32", shape)
    assert loss == pytest.approx(expected, rel=MIXED_LOSS[precision])
    for name, gradient in gradients.items():
        assert gradient.dtype == np.float32
        assert not np.array_equal(gradient, exact[name]), f"{name}: nothing was rounded"
        assert largest_error(gradient, exact[name]) < MIXED_GRADIENT[precision], name


CHILD = """
import json, sys
import numpy as np
sys.path[:0] = json.loads(sys.argv[1])
from test_precision import loss_and_gradients
loss, gradients = loss_and_gradients(sys.argv[2], json.loads(sys.argv[3]))
np.savez(sys.argv[4], loss=loss, **gradients)
"""


@pytest.mark.skipif(ops.REFERENCE_ONLY, reason="there are no kernels to compare the twins with")
@pytest.mark.parametrize("precision", MIXED)
@pytest.mark.parametrize("shape", [VARIANTS[2], VARIANTS[3]], ids=str)
@pytest.mark.parametrize("environment", ["TISSLM_OPS=reference", "TISSLM_ISA=avx2"])
def test_twins_and_other_levels_compute_the_same(tmp_path, precision, shape, environment):
    """The twins widen what is stored and round nothing else, and so do levels without pairs."""
    variable, value = environment.split("=")
    if variable == "TISSLM_ISA":
        isa = pytest.importorskip("tisslm._kernels.isa")
        if value not in isa.available():
            pytest.skip(f"this processor has no {value}")
    found = tmp_path / "found.npz"
    here = json.dumps([os.path.dirname(__file__), *sys.path])
    subprocess.run(
        [sys.executable, "-c", CHILD, here, precision, json.dumps(shape), str(found)],
        env={**os.environ, variable: value},
        check=True,
    )
    loss, gradients = loss_and_gradients(precision, shape)
    with np.load(found) as twin:
        assert loss == pytest.approx(float(twin["loss"]), rel=MIXED_LOSS[precision])
        for name, gradient in gradients.items():
            assert largest_error(gradient, twin[name]) < MIXED_GRADIENT[precision], name


@pytest.mark.parametrize("precision", MIXED)
@pytest.mark.parametrize("shape", VARIANTS[:4], ids=str)
def test_the_custom_path_has_the_bits_of_the_training_path(make, precision, shape):
    model = make(precision, **shape)
    x, y = window(model)
    expected = model.step_loss(Batch(x, y, target_weights(y, np.float64)), CrossEntropy())
    gradients = [p.grad.copy() for p in model.parameters]
    model.parameters.zero_grad()
    loss = CrossEntropy()
    logits, cache = model.forward(x, train=True)
    assert logits.dtype == np.float32
    assert loss.forward(logits, y) == expected
    model.backward(loss.backward(), cache)
    for parameter, gradient in zip(model.parameters, gradients, strict=True):
        assert np.array_equal(parameter.grad, gradient), parameter.name


class HiddenSquare(Loss):
    """Half the square of the hidden states, weighted per target."""

    needs = "hidden"

    def whole(self, hidden_BTC, batch):
        assert hidden_BTC.dtype == np.float32
        weights = batch.weights_BT[..., None].astype(np.float32)
        return float((0.5 * weights * hidden_BTC**2).sum()), weights * hidden_BTC


@pytest.mark.parametrize("precision", MIXED)
def test_a_loss_of_hidden_states_sees_float32(make, precision):
    losses, gradients = [], []
    for model in (make(precision), make("fp32")):
        x, y = window(model)
        batch = Batch(x, y, target_weights(y, np.float64))
        losses.append(model.step_loss(batch, HiddenSquare()))
        gradients.append({p.name: p.grad for p in model.parameters})
    assert losses[0] == pytest.approx(losses[1], rel=MIXED_LOSS[precision])
    mixed, exact = gradients
    for name, gradient in mixed.items():
        assert largest_error(gradient, exact[name]) < MIXED_GRADIENT[precision], name


@pytest.mark.parametrize("precision", MIXED)
def test_a_smaller_plan_is_the_size_of_the_workspace(make, precision):
    model, exact = make(precision), make("fp32")
    plan, wide = model.plan(3, 20), exact.plan(3, 20)
    for name in ("x", "qkv", "heads"):
        assert 2 * plan[f"layers.0.{name}"] == wide[f"layers.0.{name}"]
    assert 2 * plan["layers.1.pre"] == wide["layers.1.pre"]
    assert sum(plan.values()) < 0.75 * sum(wide.values())
    model.forward(window(model)[0])
    assert model.body.memory.workspace is not None
    assert model.body.memory.workspace.sizes == plan
    buffers = model.body.buffers(3, 20)
    assert {str(a.dtype) for a in buffers.saved[0].values()} == {"float32", STORED[precision]}
    assert buffers.own["h"].dtype == buffers.own["dh"].dtype == np.float32


@pytest.mark.parametrize("precision", MIXED)
def test_decoding_is_close_to_a_pass_over_the_whole_text(make, precision):
    model = make(precision)
    x, _ = window(model)
    expected, _ = model.forward(x)
    decoder = TransformerDecoder(model)
    found = [decoder.prefill(x[:, :7])]
    found += [decoder.step(x[:, t]) for t in range(7, 20)]
    assert found[0].dtype == np.float32
    assert np.array_equal(found[0], model.forward(x[:, :7])[0][:, -1])
    error = largest_error(np.stack(found, axis=1), expected[:, 6:])
    assert error < MIXED_GRADIENT[precision]


@pytest.mark.parametrize("precision", MIXED)
def test_generation_repeats_itself(make, precision):
    model, sampling = make(precision), Sampling(seed=3)
    first = generate(model, [1, 2], 30, sampling)
    assert first == generate(make(precision), [1, 2], 30, sampling)
    assert len(first) == 30


@pytest.mark.parametrize("precision", MIXED)
def test_evaluation_is_close_to_fp32_and_adds_no_gradient(make, precision):
    model, exact = make(precision, dropout=0.3), make("fp32", dropout=0.3)
    ids = np.random.default_rng(4).integers(0, 13, 400).astype(np.uint16)
    dataset = TokenDataset(ids, 20, vocab_size=13)
    found = evaluate(model, dataset, CrossEntropy(), batch_size=6)
    expected = evaluate(exact, dataset, CrossEntropy(), batch_size=6)
    assert found.loss == pytest.approx(expected.loss, rel=MIXED_LOSS[precision])
    assert found.loss != expected.loss
    assert not any(p.grad.any() for p in model.parameters)


@pytest.mark.parametrize("precision", MIXED)
def test_preparing_changes_no_parameter_and_can_be_taken_back(make, precision):
    model = make("fp32")
    x, _ = window(model)
    data = model.parameters.data.copy()
    before, cache = model.forward(x)
    model.prepare(precision=precision)
    assert model.body.memory.workspace is None
    with pytest.raises(ShapeError, match="this cache is stale"):
        model.backward(before, cache)
    assert not np.array_equal(model.forward(x)[0], before)
    model.prepare()
    assert np.array_equal(model.forward(x)[0], before)
    assert np.array_equal(model.parameters.data, data)


@pytest.mark.parametrize("precision", MIXED)
def test_a_model_of_float64_has_no_mixed_precision(make, precision):
    model = make("fp32", "float64")
    x, _ = window(model)
    logits, cache = model.forward(x)
    said = f"a model of float64 has no mixed precision, got '{precision}'; build it with dtype="
    with pytest.raises(ConfigError, match=said):
        model.prepare(precision=precision)
    model.backward(logits, cache)  # nothing was changed, so this is not stale


def test_auto_is_for_the_trainer(make):
    with pytest.raises(ConfigError, match=r"bf16, fp16, got 'auto'; the Trainer resolves it"):
        make().prepare(precision="auto")


def test_fp16_overflows_to_infinity_and_not_to_a_number(make):
    """What loss scaling looks for."""
    model = make("fp16")
    x, y = window(model)
    with np.errstate(invalid="ignore"):  # the twins add infinities of both signs
        model.step_loss(Batch(x, y, target_weights(y, np.float64) * 2.0**24), CrossEntropy())
    assert not np.isfinite(model.parameters.grad_norm())


def test_gradients_too_small_for_fp16_need_a_scale(make):
    """Half of its smallest number, 2^-24, is rounded to zero; a power of two keeps all bits."""
    norms = []
    for scale in (1.0, 2.0**16):
        model = make("fp16")
        x, y = window(model)
        weights = np.full(y.shape, 2.0**-26 * scale)
        model.step_loss(Batch(x, y, np.where(y < 0, 0.0, weights)), CrossEntropy())
        norms.append(model.parameters.grad_norm() / scale)
    exact = make("fp32")
    exact.step_loss(Batch(x, y, np.where(y < 0, 0.0, 2.0**-26)), CrossEntropy())
    assert norms[0] == 0.0
    assert norms[1] == pytest.approx(exact.parameters.grad_norm(), rel=MIXED_GRADIENT["fp16"])

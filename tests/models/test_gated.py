"""The gated MLP: its formula, its bits in every way to run it, and what others see of it.

Its gradients are compared with differences by ``tests/testing``.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from tolerances import MIXED_GRADIENT, WHOLE_MODEL, largest_error

from tisslm import ops
from tisslm.contracts import PassContext
from tisslm.memory import Parameters, ParameterSpec
from tisslm.models.layers.activation import Gated
from tisslm.models.layers.chunks import CHUNK
from tisslm.models.layers.dropout import Dropout
from tisslm.models.layers.linear import Linear
from tisslm.models.layers.mlp import MLP
from tisslm.models.layers.norm import RMSNorm
from tisslm.models.layers.precision import Precision
from tisslm.ops import widen
from tisslm.tracking.pass_arrays import Room, Sites

C, F, EPS = 24, 40, 1e-5
SHAPE = (3, 700)  # three chunks, of which the last is short
WAYS = ["fp32", "bf16", "fp16"]


def drawn(*shape, seed=0, size=1.0):
    return np.random.default_rng(seed).normal(scale=size, size=shape)


def make(precision="fp32", dtype="float32", p=0.0):
    specs = [
        ParameterSpec("norm.weight", (C,)),
        ParameterSpec("up", (2 * F, C)),
        ParameterSpec("down", (C, F)),
    ]
    parameters = Parameters(specs, dtype)
    for i, parameter in enumerate(parameters):
        parameter.data[...] = drawn(*parameter.shape, seed=1 + i, size=C**-0.5).astype("f4")
    layer = MLP(
        RMSNorm(parameters["norm.weight"], EPS),
        Linear(parameters["up"], None),
        Linear(parameters["down"], None),
        Gated(ops.ACTIVATIONS["silu"]),
        Dropout(p, site=3),
        Precision.of(precision, dtype),
    )
    return layer, parameters


def buffers(layer, kind):
    plan = layer.plan(SHAPE)
    arrays = {n: np.zeros(b.shape, b.dtype) for n, b in plan.items() if b.kind == kind}
    for array in arrays.values():
        array.view(np.uint8)[...] = 0xFF  # NaN in every type
    return arrays


def context(train=False):
    return PassContext(*SHAPE, train, 5, 3, 0, None)


def run(layer, stream, *, train=False):
    h, saved, scratch = stream.copy(), buffers(layer, "saved"), buffers(layer, "scratch")
    layer.forward(h, saved, scratch, context(train))
    return h, saved


@pytest.fixture
def stream():
    return drawn(SHAPE[0] * SHAPE[1], C, seed=7).astype("f4")


def formula(parameters, stream):
    wide = stream.astype(np.float64)
    weights = {p.name: p.data.astype(np.float64) for p in parameters}
    rms = np.sqrt((wide**2).mean(axis=1, keepdims=True) + EPS)
    gate, up = np.split((wide / rms * weights["norm.weight"]) @ weights["up"].T, 2, axis=1)
    return wide + (gate * expit(gate) * up) @ weights["down"].T, gate, up


def test_the_sample_has_more_than_two_chunks():
    assert SHAPE[0] * SHAPE[1] > 2 * CHUNK


def test_it_is_the_published_formula(stream):
    layer, parameters = make()
    expected, gate, up = formula(parameters, stream)
    h, saved = run(layer, stream)
    assert largest_error(h, expected) < WHOLE_MODEL
    assert largest_error(saved["pre"], np.concatenate([gate, up], axis=1)) < WHOLE_MODEL


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_is_near(stream, precision):
    layer, parameters = make(precision)
    difference = run(layer, stream)[0] - formula(parameters, stream)[0]
    assert np.abs(difference).max() < MIXED_GRADIENT[precision]


@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("precision", WAYS)
def test_what_is_computed_again_has_the_bits_of_forward(stream, precision, p):
    layer, _ = make(precision, p=p)
    _, first = run(layer, stream, train=True)
    saved = buffers(layer, "saved")
    layer.recompute(stream.copy(), saved, buffers(layer, "scratch"), context(True))
    assert set(saved) == set(first) == {"x", "pre", "norm_rstd"}
    for name, array in saved.items():
        assert array.tobytes() == first[name].tobytes()


def test_a_token_that_is_decoded_gets_what_forward_gives_it(stream):
    layer, _ = make()
    whole, _ = run(layer, stream)
    few = stream[:5].copy()
    layer.decode(few, {}, 0)
    assert largest_error(few, whole[:5].astype(np.float64)) < WHOLE_MODEL


def gradients(layer, parameters, stream):
    parameters.zero_grad()
    h, saved = run(layer, stream, train=True)
    dh = drawn(*h.shape, seed=9).astype(h.dtype)
    layer.backward(dh, saved, buffers(layer, "scratch"), context(True))
    return {"stream": dh, **{p.name: p.grad.copy() for p in parameters}}


@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_gradients_are_near_those_of_fp32(stream, precision, p):
    exact = gradients(*make(p=p), stream)
    found = gradients(*make(precision, p=p), stream)
    for name, expected in exact.items():
        assert largest_error(found[name], expected) < MIXED_GRADIENT[precision], name


def test_gradients_do_not_depend_on_the_number_of_threads(stream):
    found = []
    for threads in (1, 2, 3, 5):
        ops.set_threads(threads)
        found.append({n: g.tobytes() for n, g in gradients(*make(), stream).items()})
    ops.set_threads(None)
    assert found[1:] == found[:1] * 3


@pytest.mark.parametrize("precision", WAYS)
def test_monitors_are_shown_the_gate_as_the_pre_activation_and_the_rest_apart(stream, precision):
    layer, _ = make(precision)
    h, saved = run(layer, stream)
    seen = {}

    def show(kind, site, array):
        seen.setdefault(site, []).append(array.copy())

    sites = Sites(Room({}), show)
    shown = layer.shown(saved, {}, context())
    sites.look({"activations"}, "blocks.0.mlp", {**shown, "stream": h})
    found = {site: np.concatenate(pieces) for site, pieces in seen.items()}
    assert set(found) == {"blocks.0.mlp", "blocks.0.mlp.pre", "blocks.0.mlp.up"}
    gate, up = np.split(widen(saved["pre"]), 2, axis=1)
    assert np.array_equal(found["blocks.0.mlp.pre"], gate)
    assert np.array_equal(found["blocks.0.mlp.up"], up)

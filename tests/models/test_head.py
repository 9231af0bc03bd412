"""The head with a soft cap and a factor: all ways to its logits agree, and so do both ways back."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import FLOAT64_ROUNDING, WHOLE_MODEL, largest_error

from tisslm.memory import Parameters, ParameterSpec
from tisslm.models.body.final_norm import FinalNorm
from tisslm.models.head import Head
from tisslm.models.layers.linear import Linear
from tisslm.models.layers.norm import LayerNorm
from tisslm.models.layers.precision import Precision
from tisslm.optim.losses.cross_entropy import CrossEntropy
from tisslm.testing.gradients.heads import capped_cases
from tisslm.testing.gradients.problem import rows_of

N, C, V, CAP = 23, 12, 37, 1.5
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
CAPS = pytest.mark.parametrize("cap", [0.0, CAP])


def drawn(*shape, seed=0, size=1.0):
    return np.random.default_rng(seed).normal(scale=size, size=shape).astype("f4")


def make(cap, dtype="float32", precision="fp32"):
    specs = [ParameterSpec("gamma", (C,)), ParameterSpec("project", (V, C))]
    parameters = Parameters(specs, dtype)
    parameters["gamma"].data[...] = 1 + drawn(C, seed=1, size=0.2)
    parameters["project"].data[...] = drawn(V, C, seed=2, size=0.5)
    types = Precision.of(precision, dtype)
    norm = FinalNorm(LayerNorm(parameters["gamma"], None, 1e-5), C, types)
    head = Head(Linear(parameters["project"], None), types, cap)
    head.chunk = 8
    return head, norm, parameters


def prepared(head, norm, stream):
    """The buffers of head and norm after the norm, full of NaN where it has written nothing."""
    plan = {**norm.plan(len(stream)), **head.plan(len(stream))}
    own = {name: np.zeros(b.shape, b.dtype) for name, b in plan.items()}
    for array in own.values():
        array.view(np.uint8)[...] = 0xFF
    norm.forward(stream, own)
    return own


def all_logits(head, own, dtype="float32"):
    out = np.full((N, V), np.nan, dtype)
    head.logits(own, out)
    return out


class Seeing(CrossEntropy):
    """Keeps the logits that it is given."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def tile(self, logits_NV, targets_N, weights_N, *, gradient=True):
        self.seen.append(logits_NV.copy())
        return super().tile(logits_NV, targets_N, weights_N, gradient=gradient)


def targets():
    return np.random.default_rng(3).integers(0, V, N).astype(np.int32), np.full(N, 1 / N)


@DTYPES
def test_capped_logits_are_the_published_formula(dtype):
    stream = drawn(N, C, seed=4).astype(dtype)
    (plain, norm, _), (capped, _, _) = (make(cap, dtype) for cap in (0.0, CAP))
    z = all_logits(plain, prepared(plain, norm, stream), dtype).astype("f8")
    found = all_logits(capped, prepared(capped, norm, stream), dtype)
    assert np.abs(z).max() > 2 * CAP
    bound = FLOAT64_ROUNDING if dtype == "float64" else WHOLE_MODEL
    assert largest_error(found, CAP * np.tanh(z / CAP)) < bound


@CAPS
@DTYPES
@pytest.mark.parametrize("gradient", [False, True])
def test_every_way_gives_the_same_logits(dtype, cap, gradient):
    head, norm, _ = make(cap, dtype)
    stream = drawn(N, C, seed=4).astype(dtype)
    own = prepared(head, norm, stream)
    expected = all_logits(head, own, dtype)
    loss, (ids, weights) = Seeing(), targets()
    dh = np.empty_like(stream) if gradient else None
    head.loss(loss, ids, weights.astype(dtype), own, dh)
    assert np.concatenate(loss.seen).tobytes() == expected.tobytes()
    assert largest_error(head.logits_of(norm.apply(stream)), expected.astype("f8")) < WHOLE_MODEL


def backward(head, norm, parameters, stream, through):
    parameters.grad_arena[...] = np.nan
    parameters.zero_grad()
    own, dh = prepared(head, norm, stream), np.full_like(stream, np.nan)
    through(own, dh)
    norm.backward(stream, dh, own)
    return {"stream": dh, **{p.name: p.grad.copy() for p in parameters}}


@CAPS
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_both_ways_back_have_the_same_bits(cap, precision):
    head, norm, parameters = make(cap, precision=precision)
    stream, (ids, weights) = drawn(N, C, seed=4), targets()
    weights = weights.astype("f4")

    def chunks(own, dh):
        head.loss(CrossEntropy(), ids, weights, own, dh)

    def whole(own, dh):
        d_logits = all_logits(head, own)
        CrossEntropy().tile(d_logits, ids, weights)
        before = d_logits.copy()
        head.backward_logits(d_logits, own, dh)
        assert d_logits.tobytes() == before.tobytes()  # they are the caller's

    found = [backward(head, norm, parameters, stream, way) for way in (chunks, whole)]
    for name, expected in found[0].items():
        assert np.isfinite(expected).all()
        assert found[1][name].tobytes() == expected.tobytes(), name


@pytest.mark.parametrize("case", capped_cases(), ids=lambda case: case.name)
def test_gradients_agree_with_central_differences(case):
    for row in rows_of(case):
        assert row.passed, row


def test_a_head_without_a_cap_has_no_buffer_for_its_slope():
    assert "slope" not in make(0.0)[0].plan(N)
    assert make(CAP)[0].plan(N)["slope"].shape == (8, V)

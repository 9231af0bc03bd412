"""The check of layers: right ones pass, and each wrong one fails by its own property."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm.contracts import Buffer, Layer
from tisslm.memory import Parameters, ParameterSpec
from tisslm.models.layers.activation import Pointwise
from tisslm.models.layers.dropout import Dropout
from tisslm.models.layers.linear import Linear
from tisslm.models.layers.mlp import MLP
from tisslm.models.layers.norm import LayerNorm
from tisslm.models.layers.precision import Precision
from tisslm.testing import check_layer

C = 6


class Gate(Layer):
    """h += h tanh(h g), written in NumPy: one parameter, one saved array, one scratch array."""

    sign = 1.0

    def __init__(self, gain, dtype):
        self.gain, self.dtype = gain, dtype

    def plan(self, shape):
        whole = (shape[0] * shape[1], C)
        return {"x": Buffer(whole, self.dtype, "saved"), "t": Buffer(whole, self.dtype, "scratch")}

    def forward(self, h_NC, saved, scratch, ctx):
        saved["x"][...] = h_NC
        np.tanh(h_NC * self.gain.data, out=scratch["t"])
        h_NC += h_NC * scratch["t"]

    def backward(self, dh_NC, saved, scratch, ctx):
        x, t = saved["x"], scratch["t"]
        np.tanh(x * self.gain.data, out=t)
        slope = dh_NC * x * (1 - t * t)
        self.accumulate((slope * x).sum(axis=0))
        dh_NC[...] = dh_NC * (1 + t) + self.sign * slope * self.gain.data

    def accumulate(self, dgain):
        gradient, add = self.gain.grad_to_write()
        gradient[...] = gradient + dgain if add else dgain


class WrongSign(Gate):
    sign = -1.0


class Overwrites(Gate):
    def accumulate(self, dgain):
        self.gain.grad_to_write()[0][...] = dgain


class AlwaysAdds(Gate):
    def accumulate(self, dgain):
        self.gain.grad_to_write()[0][...] += dgain


class ReliesOnScratch(Gate):
    def backward(self, dh_NC, saved, scratch, ctx):
        x, t = saved["x"], scratch["t"]
        slope = dh_NC * x * (1 - t * t)
        self.accumulate((slope * x).sum(axis=0))
        dh_NC[...] = dh_NC * (1 + t) + slope * self.gain.data


class PlansTooLittle(Gate):
    def plan(self, shape):
        return {**super().plan(shape), "t": Buffer((2, C), self.dtype, "scratch")}


class PlansNowhere(Gate):
    def plan(self, shape):
        return {**super().plan(shape), "more": Buffer((1,), self.dtype, "kept")}


class Drifts(Gate):
    calls = 0

    def forward(self, h_NC, saved, scratch, ctx):
        super().forward(h_NC, saved, scratch, ctx)
        Drifts.calls += 1
        h_NC += 1e-12 * (Drifts.calls % 2)


class PoorInFloat32(Gate):
    def forward(self, h_NC, saved, scratch, ctx):
        super().forward(h_NC, saved, scratch, ctx)
        if self.dtype == "float32":
            h_NC[...] = h_NC.astype(np.float16)


def gate(cls):
    def make(dtype):
        parameters = Parameters([ParameterSpec("gain.weight", (C,), decay=False)], dtype)
        return cls(parameters["gain.weight"], dtype), parameters

    return make


def mlp(dtype):
    shapes = {"norm.weight": (C,), "norm.bias": (C,), "up": (9, C), "down": (C, 9)}
    parameters = Parameters([ParameterSpec(name, shape) for name, shape in shapes.items()], dtype)
    norm = LayerNorm(parameters["norm.weight"], parameters["norm.bias"], 1e-5)
    up, down = (Linear(parameters[name], None) for name in ("up", "down"))
    dropout, precision = Dropout(0.3, site=1), Precision.of("fp32", dtype)
    return MLP(norm, up, down, Pointwise(0), dropout, precision), parameters


WRONG = [
    (WrongSign, "gradients are those of central differences"),
    (Overwrites, "parameter gradients accumulate"),
    (AlwaysAdds, "gradients are those of central differences"),
    (ReliesOnScratch, "gradients are those of central differences"),
    (PlansTooLittle, "gradients are those of central differences"),
    (PlansNowhere, "plan names buffers"),
    (Drifts, "a pass repeats to the bit"),
    (PoorInFloat32, "float32 and float64 agree"),
]


@pytest.mark.parametrize("make", [gate(Gate), mlp], ids=["gate", "mlp"])
def test_right_layers_pass(make):
    assert check_layer(make, channels=C).n_assertions > 100


@pytest.mark.parametrize(("wrong", "prop"), WRONG, ids=[w.__name__ for w, _ in WRONG])
def test_a_wrong_layer_fails_by_its_property(refuses, wrong, prop):
    refuses(check_layer, gate(wrong), prop, channels=C)

"""What every norm of the built-in layers keeps to; its formula is tested where its twin is."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm.memory import Parameters
from tisslm.models.families.gpt2.family import GPT2
from tisslm.models.layers.norm import NORMS
from tisslm.testing import check_model

N, C, EPS = 70, 24, 1e-5


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@pytest.fixture(params=[(name, bias) for name in NORMS for bias in (True, False)], ids=str)
def norm(request):
    name, bias = request.param
    parameters = Parameters(NORMS[name].parameters("norm", C, bias))
    for i, parameter in enumerate(parameters):
        parameter.data[...] = drawn(C, seed=1 + i)
    return NORMS[name].over(parameters, "norm", EPS)


@pytest.fixture
def arrays(norm):
    plan = norm.plan(N, "float32")
    return {name: np.full(buffer.shape, np.nan, np.float32) for name, buffer in plan.items()}


def empty():
    return np.full((N, C), np.nan, np.float32)


def test_buffers_are_named_as_the_contract_says(norm):
    plan = norm.plan(N, "float32")
    assert all(name.startswith("norm_") for name in plan)
    assert {buffer.kind for buffer in plan.values()} <= {"saved", "scratch"}


def test_statistics_are_a_number_for_each_row(norm, arrays):
    norm.forward(drawn(N, C), None, empty(), arrays)
    found = norm.statistics(arrays)
    assert found
    for name, values in found.items():
        assert values is arrays[name]
        assert values.shape == (N,)
        assert np.isfinite(values).all()


def test_what_is_computed_again_has_the_bits_of_forward(norm, arrays):
    h, x, y, again, alone = drawn(N, C), empty(), empty(), empty(), empty()
    norm.forward(h, x, y, arrays)
    norm.recompute(x, again, arrays)
    norm.apply(h, alone)
    assert np.array_equal(x, h)
    assert np.array_equal(again, y)
    assert np.array_equal(alone, y)


def test_rows_may_come_in_pieces(norm, arrays):
    h, whole, pieces = drawn(N, C), empty(), empty()
    norm.forward(h, None, whole, arrays)
    for rows in (slice(0, 7), slice(7, N)):
        norm.forward(h[rows], None, pieces[rows], arrays, rows)
    assert np.array_equal(pieces, whole)


@pytest.mark.parametrize("name", NORMS)
def test_a_model_with_it_keeps_the_contract_of_models(name):
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 8, "seq_len": 6, "vocab_size": 11}
    assert check_model(GPT2, options={**sizes, "norm": name}).n_assertions > 20

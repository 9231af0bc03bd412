"""Freezing by patterns of names, and how frozen parameters are laid out."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm.errors import ConfigError, ShapeError
from tisslm.memory import Parameters, ParameterSpec, grads_to_write
from tisslm.memory.freezing import check_frozen, freeze
from tisslm.ops.reference.storage import store, widen

SPECS = [
    ParameterSpec("embedding.weight", (5, 4), storable=True),
    ParameterSpec("blocks.0.up.weight", (6, 4), storable=True),
    ParameterSpec("blocks.0.up.bias", (6,), decay=False),
    ParameterSpec("blocks.1.up.weight", (6, 4), storable=True),
]


def frozen(specs):
    return [spec.name for spec in specs if not spec.trainable]


def test_patterns_are_those_of_file_names():
    assert frozen(freeze(SPECS, ["blocks.?.up.weight"])) == [
        "blocks.0.up.weight",
        "blocks.1.up.weight",
    ]
    assert frozen(freeze(SPECS, ["*.bias", "embedding.weight"])) == [
        "embedding.weight",
        "blocks.0.up.bias",
    ]
    assert freeze(SPECS, []) == SPECS
    assert frozen(freeze(freeze(SPECS, ["*.0.*"]), ["*.1.*"])) == [s.name for s in SPECS[1:]]


def test_only_what_is_frozen_and_may_be_is_kept_in_two_bytes():
    found = freeze(SPECS, ["blocks.0.*"], "bf16")
    assert [spec.stored for spec in found] == ["", "bf16", "", ""]
    parameters = Parameters(found)
    assert [p.data.dtype.name for p in parameters] == ["float32", "uint16", "float32", "float32"]
    assert parameters.stored_data.nbytes == 64  # 24 elements of two bytes, to a whole line
    assert parameters.grad_arena.size == parameters.data.size == 32 + 32


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "uint16"])
def test_values_are_rounded_to_the_type_that_is_kept(dtype):
    parameters = Parameters(freeze(SPECS, ["blocks.0.*"], "bf16"))
    values = np.empty((2, 4), dtype)
    store(values, np.linspace(-1.003, 3.1, 8).reshape(2, 4))
    parameters["blocks.0.up.weight"].fill(slice(1, 3), values)
    expected = np.empty((2, 4), np.uint16)
    store(expected, widen(values))
    assert np.array_equal(parameters["blocks.0.up.weight"].data[1:3], expected)
    parameters["embedding.weight"].fill(slice(1, 3), values)
    assert np.array_equal(parameters["embedding.weight"].data[1:3], widen(values).astype("f4"))


def test_there_is_no_gradient_to_write_of_what_is_frozen():
    parameters = Parameters(freeze(SPECS, ["blocks.0.up.weight"]))
    weight, bias = parameters["blocks.0.up.weight"], parameters["blocks.0.up.bias"]
    dw, db, add = grads_to_write(weight, bias)
    assert dw is None
    assert db is not None
    assert not add
    assert grads_to_write(weight, bias)[2]
    assert grads_to_write(weight, None) == (None, None, False)


@pytest.mark.parametrize(
    ("patterns", "precision", "words"),
    [
        (
            ["blocks.0.upp.*"],
            "fp32",
            "training.freeze: expected the name of a parameter or a pattern of names, got "
            "'blocks.0.upp.*', which matches none of 4; the nearest is 'blocks.0.up.bias'",
        ),
        (
            ["*"],
            "fp32",
            "training.freeze: expected something left to train, got ['*'], which match all of 4 "
            "parameters; leave some out",
        ),
        (
            ["*.bias"],
            "bf16",
            "training.frozen_precision: expected frozen matrices to keep in bf16, got none; freeze "
            "some by training.freeze, or leave it out",
        ),
        ([], "int8", 'training.frozen_precision: expected "fp32" or "bf16", got \'int8\''),
    ],
)
def test_what_is_refused(patterns, precision, words):
    with pytest.raises(ConfigError) as caught:
        freeze(iter(SPECS), patterns, precision)
    assert str(caught.value) == words


def test_a_model_that_was_built_without_is_refused():
    check_frozen(freeze(SPECS, ["*.0.*"]), ["blocks.0.*"])
    with pytest.raises(ConfigError, match=r"a model whose blocks.1.up.weight is frozen"):
        check_frozen(freeze(SPECS, ["*.0.*"]), ["blocks.*"])
    with pytest.raises(ConfigError, match="matches none of 4"):
        check_frozen(SPECS, ["nothing"])
    with pytest.raises(ShapeError, match="expected bf16 of a frozen parameter alone"):
        ParameterSpec("a", (1,), stored="bf16")

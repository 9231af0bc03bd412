"""Values that are on their way are waited for by whoever asks, and by nobody else."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm.memory import Parameters, ParameterSpec
from tisslm.memory.shards import ParameterShard


@pytest.fixture
def parameters():
    return Parameters(
        [
            ParameterSpec("matrix", (5, 7)),
            ParameterSpec("frozen", (4,), trainable=False),
            ParameterSpec("bias", (3,), decay=False),
        ]
    )


@pytest.fixture
def asked(parameters):
    """What is asked for, of parameters that are withheld."""
    ranges = []
    parameters.withhold(lambda start, stop: ranges.append((start, stop)))
    return ranges


def test_values_that_are_there_are_a_plain_attribute(parameters):
    for holder in (parameters, *parameters):
        assert vars(holder)["data"] is holder.data


def test_each_parameter_is_asked_for_once_and_by_its_own_range(parameters, asked):
    bias = parameters["bias"]
    arrays = [bias.data, bias.data]
    assert asked == [(bias.offset, bias.offset + 3)]
    assert all(np.shares_memory(array, parameters.data_arena) for array in arrays)
    assert parameters["matrix"].data.shape == (5, 7)
    assert asked[1:] == [(0, 35)]


def test_the_flat_array_is_all_of_them(parameters, asked):
    assert parameters.data is parameters.data_arena
    assert asked == [(0, parameters.data_arena.size)]


def test_what_is_frozen_is_never_on_its_way(parameters, asked):
    assert not parameters["frozen"].data.any()
    assert not asked


def test_every_way_to_values_asks(parameters, asked):
    shard = ParameterShard(parameters, [(0, 16)])
    for way in (parameters.state, shard.read, shard.write):
        parameters.withhold(lambda start, stop: asked.append((start, stop)))
        asked.clear()
        way()
        assert asked, way


def test_names_sizes_and_gradients_are_no_values(parameters, asked):
    assert [p.name for p in parameters] == ["matrix", "frozen", "bias"]
    assert (parameters.count, parameters["bias"].size, len(parameters)) == (38, 3, 3)
    assert "float32" in repr(parameters["bias"])
    parameters.zero_grad()
    assert parameters.grad.shape == parameters.data_arena.shape
    parameters.by_parameter({"mean": parameters.grad})
    ParameterShard(parameters, [(0, 16)]).by_parameter({})
    assert not asked


def test_what_cannot_come_is_told_to_everyone_who_asks(parameters):
    def fail(start, stop):
        raise OSError("no more")

    parameters.withhold(fail)
    for holder in (parameters, parameters["bias"], parameters["bias"]):
        with pytest.raises(OSError, match="no more"):
            holder.data  # noqa: B018


def test_it_is_asked_again_after_the_next_update(parameters, asked):
    assert parameters["bias"].data.shape == (3,)
    parameters.withhold(lambda start, stop: asked.append((start, stop)))
    assert parameters["bias"].data.shape == (3,)
    assert len(asked) == 2

"""The running mean of the weights: when it is taken, what it comes to, and how it is exchanged."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm.config import EmaConfig
from tisslm.memory import Parameters, ParameterSpec
from tisslm.memory.shards import ParameterShard
from tisslm.optim import weight_average
from tisslm.optim.weight_average import WeightAverage

SPECS = [
    ParameterSpec("up.weight", (7, 9)),
    ParameterSpec("up.bias", (7,), decay=False),
    ParameterSpec("frozen", (3,), trainable=False),
]


def weights(t: int, parameters: Parameters) -> None:
    rng = np.random.default_rng(t)
    for p in parameters:
        p.data[...] = rng.normal(size=p.shape)
    parameters.updates = t


def run(parameters: Parameters, updates: int, **how: object) -> WeightAverage:
    average = WeightAverage(parameters, EmaConfig(**how))
    for t in range(1, updates + 1):
        weights(t, parameters)
        average.update()
    return average


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_is_the_mean_of_its_formula(dtype: str) -> None:
    parameters = Parameters(SPECS, dtype)
    average = run(parameters, 5, decay=0.35)
    decays = [0.0, 2 / 11, 3 / 12, 4 / 13, 0.35]  # of diffusers, until 0.35 is less
    assert [average.decay_of(t) for t in range(5)] == pytest.approx(decays, rel=1e-15)
    mean = np.zeros((7, 9))
    for t, decay in enumerate(decays, 1):
        weights(t, parameters)
        mean = decay * mean + (1 - decay) * parameters["up.weight"].data
    found = average.state()
    assert found.keys() == {"up.weight/average", "up.bias/average"}
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(found["up.weight/average"], mean, rtol=0, atol=tolerance)


def test_without_a_warm_up_it_is_kept_from_the_second_on() -> None:
    average = WeightAverage(Parameters(SPECS), EmaConfig(decay=0.9, warmup=False))
    assert [average.decay_of(t) for t in range(3)] == [0.0, 0.9, 0.9]


def test_it_begins_after_start_and_is_taken_every_so_many_updates() -> None:
    parameters = Parameters(SPECS)
    average = run(parameters, 3, start=3, every=2)
    assert average.count == 0
    weights(4, parameters)
    average.update()
    assert average.count == 1
    np.testing.assert_array_equal(average.state()["up.bias/average"], parameters["up.bias"].data)
    weights(5, parameters)
    average.update()
    assert average.count == 1


def test_twice_exchanged_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_average, "_BLOCK", 10)
    parameters = Parameters(SPECS)
    average = run(parameters, 3)
    trained, mean = parameters.data.copy(), average.state()["up.weight/average"].copy()
    average.swap()
    np.testing.assert_array_equal(parameters["up.weight"].data, mean)
    np.testing.assert_array_equal(
        parameters["frozen"].data, np.random.default_rng(3).normal(size=73)[-3:].astype("f4")
    )
    average.swap()
    assert parameters.data.tobytes() == trained.tobytes()
    np.testing.assert_array_equal(average.state()["up.weight/average"], mean)


def test_parts_of_the_parameters_have_the_bits_of_the_whole() -> None:
    parameters = Parameters(SPECS)
    shards = [ParameterShard(parameters, ranges) for ranges in ([(0, 17)], [(17, 80)])]
    averages = [WeightAverage(shard, EmaConfig()) for shard in shards]
    whole = WeightAverage(parameters, EmaConfig())
    for t in range(1, 5):
        weights(t, parameters)
        whole.update()
        for shard, average in zip(shards, averages, strict=True):
            shard.read()
            average.update()
    pieces = [average.state()["up.weight/average"] for average in averages]
    expected = whole.state()["up.weight/average"]
    np.testing.assert_array_equal(np.concatenate(pieces), expected.reshape(-1))
    assert WeightAverage.planned(parameters) == parameters.data.nbytes + 80 * 4

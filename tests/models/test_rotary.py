"""The tables of rotary positions: angles as published weights know them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tisslm.config.model.rope_scaling import RopeScaling
from tisslm.models.rotary import Rotary

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "rotary.json").read_text())


def units_apart(found, expected):
    """Return the largest distance in units of the last place of what is expected."""
    return float((np.abs(found.astype(np.float64) - expected) / np.spacing(np.abs(expected))).max())


@pytest.mark.parametrize("case", GOLDEN["cases"].values(), ids=GOLDEN["cases"].keys())
def test_frequencies_have_the_bits_of_transformers_and_its_angles_follow(case):
    rotary = Rotary(
        case["head_dim"], case["fraction"], case["theta"], RopeScaling.parse(case["scaling"], 7)
    )
    frequencies = rotary.frequencies()
    assert frequencies.dtype == np.float32
    assert frequencies[case["channels"]].tolist() == case["frequencies"]
    assert rotary.scaling.magnitude == case["magnitude"]
    # PyTorch's float32 cosine is one unit off at times, and the magnitude rounds once more
    bound = 1 if case["magnitude"] == 1 else 2
    for found, name in zip(rotary.tables(8001), ("cos", "sin"), strict=True):
        expected = np.array(case[name], np.float32)
        assert units_apart(found[GOLDEN["positions"]][:, case["channels"]], expected) <= bound


def test_an_angle_is_the_rounded_product_of_frequency_and_position():
    """Not the exact one, which trained weights have never seen."""
    rotary = Rotary(128, theta=10_000.0)
    cos, sin = rotary.tables(8192)
    rounded = np.float32(8001) * rotary.frequencies()
    assert np.array_equal(cos[8001], np.cos(rounded.astype(np.float64)).astype(np.float32))
    assert np.array_equal(sin[8001], np.sin(rounded.astype(np.float64)).astype(np.float32))
    exact = 8001 * 10_000.0 ** (-np.arange(64) / 64)
    assert np.abs(np.cos(exact) - cos[8001]).max() > 1e-4


def test_position_0_is_not_turned():
    cos, sin = Rotary(64).tables(3)
    assert (cos[0] == 1).all()
    assert (sin[0] == 0).all()


def test_a_longer_table_begins_with_the_shorter_one():
    """It is computed in blocks of rows; a table of any length has the same bits."""
    rotary = Rotary(32, scaling=RopeScaling.parse({"type": "linear", "factor": 2.0}, 8))
    long = rotary.tables(2500)
    for n in (1, 1023, 1024, 1025):
        for part, whole in zip(rotary.tables(n), long, strict=True):
            assert part.tobytes() == whole[:n].tobytes()


def test_a_part_of_a_head_has_frequencies_of_its_own():
    """Powers run over the channels that are turned, not over the head."""
    rotary = Rotary(80, 0.25)
    assert rotary.n_pairs == 10
    assert np.array_equal(rotary.frequencies(), Rotary(20).frequencies())


@pytest.mark.parametrize(
    "given",
    [
        {"type": "linear", "factor": 2**31 - 1},
        {"type": "llama3", "factor": 2, "low_freq_factor": 1e-320, "high_freq_factor": 1e-300},
        {"type": "yarn", "factor": 2**31 - 1, "original_max_position_embeddings": 1},
        {"type": "yarn", "factor": 1, "beta_fast": 0.001, "beta_slow": 0.001},
    ],
)
def test_the_most_absurd_numbers_that_are_taken_give_numbers(given):
    """Warnings would be errors here."""
    for theta in (1.5, 2.0**62):
        cos, sin = Rotary(64, theta=theta, scaling=RopeScaling.parse(given, 8)).tables(50)
        assert np.isfinite(cos).all()
        assert np.isfinite(sin).all()

"""Scaled rotary positions, said by keys or by a tensor of factors."""

from __future__ import annotations

import numpy as np
import pytest
from gguf_models import LLAMA3, YARN

from tisslm.errors import CheckpointError
from tisslm.models.gguf.metadata import Keys
from tisslm.models.gguf.rope import factors_of, scaling_keys, scaling_of
from tisslm.system.safe_files import CHECKPOINT


def back(factors, head_dim, theta=5e5, **metadata):
    keys = {f"llama.{key}": value for key, value in metadata.items()}
    return scaling_of(Keys(keys, "llama", "f", CHECKPOINT), factors, head_dim, theta)


def llama3(factor=8.0, high=4.0, length=8192):
    return {
        "rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": high,
        "original_max_position_embeddings": length,
    }  # fmt: skip


@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize(
    "scaling", [llama3(), llama3(32.0), llama3(16.0, 3.0, 4096), llama3(2.5, 8.0, 1000)]
)
def test_the_numbers_of_llama3_are_found_again(head_dim, scaling):
    assert back(factors_of(scaling, head_dim, 5e5), head_dim) == scaling


def test_factors_are_those_that_llama_cpp_computes():
    """The formula of ``convert_hf_to_gguf.py``."""
    found = factors_of(LLAMA3, 64, 1e4)
    for i, factor in enumerate(found):
        frequency = 1e4 ** (-i / 32)
        wavelength = 2 * np.pi / frequency
        if wavelength < 256 / 4:
            expected = 1.0
        elif wavelength > 256:
            expected = 8.0
        else:
            smooth = (256 / wavelength - 1) / 3
            expected = 1 / ((1 - smooth) / 8 + smooth)
        assert factor == pytest.approx(expected, rel=1e-5)


def test_where_too_few_frequencies_tell_the_usual_numbers_are_tried():
    usual = llama3()
    factors = factors_of(usual, 8, 5e5)
    assert ((factors > 1.01) & (factors < 7.9)).sum() < 2
    assert back(factors, 8) == usual


@pytest.mark.parametrize(
    "factors",
    [
        np.full(31, 2.0),
        np.full(32, np.nan),
        np.full(32, 0.5),
        np.linspace(1, 8, 32),
        np.geomspace(8, 1, 32),
    ],
)
def test_other_factors_are_refused(factors):
    with pytest.raises(CheckpointError, match=r"rope_freqs\.weight: expected .*, got others"):
        back(factors.astype(np.float32), 64)


def test_factors_of_one_scale_nothing():
    assert back(np.ones(32, np.float32), 64) is None


def test_both_ways_at_once_are_refused():
    keys = {"rope.scaling.type": "linear", "rope.scaling.factor": 2.0}
    with pytest.raises(CheckpointError, match="expected either rope_freqs"):
        back(factors_of(llama3(), 64, 5e5), 64, **keys)


@pytest.mark.parametrize("scaling", [{"rope_type": "linear", "factor": 2.0}, YARN])
def test_keys_come_back(scaling):
    assert back(None, 64, **scaling_keys(scaling, 48)) == scaling


def test_old_and_short_spellings():
    assert back(None, 64, **{"rope.scale_linear": 4.0}) == {"rope_type": "linear", "factor": 4.0}
    assert back(None, 64, **{"rope.scaling.factor": 4.0, "rope.scaling.type": "none"}) is None
    said = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "context_length": 400}
    length = {"original_max_position_embeddings": 400}
    assert back(None, 64, **said) == {"rope_type": "yarn", "factor": 4.0, **length}
    fast = back(None, 64, **said, **{"rope.scaling.yarn_beta_fast": 20.0})
    assert fast["beta_fast"] == 20.0


@pytest.mark.parametrize("key", [{"beta_fast": 20.0}, {"truncate": False}, {"mscale": 2.0},
                                 {"attention_factor": 1.5}])  # fmt: skip
def test_what_the_format_cannot_say_has_no_keys(key):
    assert scaling_keys({**YARN, **key}, 48) is None

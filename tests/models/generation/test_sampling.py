"""The filters of the next token: what each keeps, in which order, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm.errors import ConfigError
from tisslm.models.generation import Sampling

#: Probabilities 0.4, 0.3, 0.2, 0.1 at temperature 1.
LOGITS = np.log(np.array([0.1, 0.4, 0.2, 0.3]))


def kept(sampling: Sampling, logits=LOGITS, earlier=()) -> dict[int, float]:
    found = sampling.distribution(logits, earlier)
    return {int(i): float(found[i]) for i in np.flatnonzero(found)}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {0: 0.1, 1: 0.4, 2: 0.2, 3: 0.3}),
        ({"temperature": 0.0}, {1: 1.0}),
        ({"top_k": 2}, {1: 4 / 7, 3: 3 / 7}),
        ({"top_k": 9}, {0: 0.1, 1: 0.4, 2: 0.2, 3: 0.3}),
        ({"top_p": 0.65}, {1: 4 / 7, 3: 3 / 7}),
        ({"min_p": 0.45}, {1: 4 / 9, 3: 3 / 9, 2: 2 / 9}),
        ({"min_p": 1.0}, {1: 1.0}),
        # after top-k, the two have 4/7 and 3/7: the first alone reaches 0.5
        ({"top_k": 2, "top_p": 0.5}, {1: 1.0}),
        # min-p is a part of the largest, whatever was kept
        ({"top_p": 0.65, "min_p": 0.45}, {1: 4 / 7, 3: 3 / 7}),
        # at temperature 1/2, probabilities are as 16, 9, 4, 1
        ({"temperature": 0.5, "min_p": 0.3}, {1: 16 / 25, 3: 9 / 25}),
    ],
)
def test_each_filter_sees_what_the_one_before_has_left(options, expected):
    assert kept(Sampling(**options)) == pytest.approx(expected)


def test_the_repetition_penalty_divides_what_is_positive_and_multiplies_what_is_negative():
    logits = np.array([2.0, -1.0, 0.5, 0.0])
    weights = np.exp([1.0, -2.0, 0.5, 0.0])
    expected = dict(enumerate(weights / weights.sum()))
    found = kept(Sampling(repetition_penalty=2.0), logits, earlier=[1, 0, 1, 99])
    assert found == pytest.approx(expected)
    assert logits.tolist() == [2.0, -1.0, 0.5, 0.0], "the logits stay"
    assert Sampling(temperature=0.0, repetition_penalty=5.0).choose(logits, 0.5, [0]) == 2


@pytest.mark.parametrize("temperature", [1e-29, 1e-31, 1e-320])
def test_next_to_no_temperature_is_none(temperature):
    sampling = Sampling(temperature=temperature, top_p=0.9)
    assert kept(sampling) == {1: 1.0}
    assert sampling.choose(LOGITS, 0.999) == 1


@pytest.mark.parametrize("penalty", [1e-6, 1e6])
def test_no_penalty_makes_a_logit_overflow(penalty):
    logits = np.array([3e3, -3e3, 1.0], np.float32)
    assert sum(kept(Sampling(repetition_penalty=penalty), logits, [0, 1]).values()) == 1.0


def test_random_numbers_choose_as_the_probabilities_say():
    sampling, rng = Sampling(top_k=3, min_p=0.01), np.random.default_rng(0)
    draws = [sampling.choose(LOGITS, u) for u in rng.random(4000)]
    found = np.bincount(draws, minlength=4) / 4000
    np.testing.assert_allclose(found, sampling.distribution(LOGITS), atol=0.03)


@pytest.mark.parametrize("scale", [0.1, 3.0, 9.0])
@pytest.mark.parametrize(
    "options", [{}, {"top_p": 0.4}, {"top_p": 0.999}, {"min_p": 0.001}, {"temperature": 0.5}]
)
def test_of_many_tokens_the_choice_is_that_of_all_in_order(scale, options):
    """Most draws fall among the first thousand, others do not."""
    rng = np.random.default_rng(1)
    logits = np.round(rng.normal(scale=scale, size=20_000), 2).astype(np.float32)  # with equals
    sampling = Sampling(**options)
    order = np.argsort(-logits, kind="stable")
    cumulative = np.cumsum(sampling.distribution(logits)[order])
    draws = np.concatenate([rng.random(150), [0.0, 1.0 - 2.0**-53]])
    found = [sampling.choose(logits, u) for u in draws]
    last = int(np.flatnonzero(np.diff(cumulative, prepend=0.0))[-1])
    expected = np.minimum(np.searchsorted(cumulative, draws[:-1], side="right"), last)
    assert found[:-1] == order[expected].tolist()
    assert sampling.distribution(logits)[found[-1]] > 0


def test_of_equal_logits_the_lower_ids_are_kept():
    logits = np.array([1.0, 2.0, 1.0, 1.0, 2.0])
    assert list(kept(Sampling(top_k=3), logits)) == [0, 1, 4]


@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"top_p": 0.5}, {"temperature": 0.0}])
@pytest.mark.parametrize("size", [9, 20_000])
def test_logits_that_are_no_numbers_give_some_id(options, size):
    logits = np.full(size, np.nan, np.float32)
    for _ in range(2):
        assert 0 <= Sampling(**options).choose(logits, 0.3) < size
        logits[5] = 1.0


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("temperature", None, "temperature: expected a number, got None"),
        ("top_p", "1", "top_p: expected a number, got '1'"),
        ("top_k", 1.5, "top_k: expected an integer >= 0, got 1.5"),
        ("top_k", True, "top_k: expected an integer >= 0, got True"),
        ("min_p", -0.1, "min_p: expected a number in [0, 1], got -0.1"),
        ("min_p", 1.5, "min_p: expected a number in [0, 1], got 1.5"),
        ("min_p", float("nan"), "min_p: expected a number in [0, 1], got nan"),
        (
            "repetition_penalty",
            1e-308,
            "repetition_penalty: expected a number from 1e-6 to 1e6, got 1e-308",
        ),
        (
            "repetition_penalty",
            0.0,
            "repetition_penalty: expected a number from 1e-6 to 1e6, got 0.0",
        ),
        (
            "repetition_penalty",
            float("inf"),
            "repetition_penalty: expected a number from 1e-6 to 1e6, got inf",
        ),
    ],
)
def test_a_wrong_option_is_refused(option, value, expected):
    with pytest.raises(ConfigError) as caught:
        Sampling(**{option: value})
    assert str(caught.value) == expected

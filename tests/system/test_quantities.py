"""Times, sizes and numbers as people read them."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisslm.system.quantities import (
    count_text,
    duration_text,
    megabytes_text,
    short_text,
    size_text,
    step_time_text,
)
from tisslm.system.time_limits import parse_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (1e-5, "0s"),
        (0.0123, "0.012s"),
        (0.341, "0.34s"),
        (3, "3s"),
        (8.26, "8.3s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (372, "6m12s"),
        (3599.9, "1h00m"),
        (11220, "3h07m"),
        (86399, "1d00h"),
        (190_800, "2d05h"),
        (-1.0, "-1s"),
        (math.nan, "nan"),
    ],
)
def test_durations_read_as_people_write_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@given(st.floats(0, 1e7), st.floats(0, 1e7))
def test_longer_durations_never_read_shorter(a: float, b: float) -> None:
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}

    def read(text: str) -> float:
        return sum(float(n) * units[unit] for n, unit in re.findall(r"([\d.]+)([dhms])", text))

    low, high = sorted([a, b])
    assert read(duration_text(low)) <= read(duration_text(high))
    assert abs(read(duration_text(low)) - low) <= max(0.5, low / 48)


@given(st.floats(1, 1e7))
def test_a_duration_can_be_given_as_a_setting(seconds: float) -> None:
    assert parse_duration(duration_text(seconds)) == pytest.approx(seconds, rel=0.05)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.000123, "0.123 ms"),
        (0.9949, "995 ms"),
        (0.996, "0.996 s"),
        (59.4, "59.4 s"),
        (59.6, "1m00s"),
    ],
)
def test_a_short_time_has_three_digits(seconds: float, text: str) -> None:
    assert step_time_text(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (950, "950"),
        (999.9, "1.00k"),
        (41_234, "41.2k"),
        (3.07e6, "3.07M"),
        (12e9, "12.0B"),
        (1.5e12, "1.50T"),
        (2e15, "2000T"),
        (math.inf, "inf"),
        (math.nan, "nan"),
    ],
)
def test_counts_have_three_digits(number: float, text: str) -> None:
    assert count_text(number) == text


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_short_number_is_short_and_right(number: float) -> None:
    text = short_text(number)
    assert len(text) <= 9
    if abs(number) < 1.7e308:
        assert float(text) == pytest.approx(number, rel=0.06)


def test_sizes_are_written_in_the_unit_that_suits():
    found = [size_text(n) for n in (12, 2048, 3 * 2**20, 2.5 * 2**30, 2**42)]
    assert found == ["12 B", "2 KiB", "3 MiB", "2.5 GiB", "4 TiB"]


def test_texts_are_measured_in_megabytes() -> None:
    assert megabytes_text(1_234_560_000) == "1,234.6 MB"

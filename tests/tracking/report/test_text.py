"""Numbers for readers, and elements of HTML that nothing breaks out of."""

from __future__ import annotations

import json
import math
import re
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisslm.errors.visible import visible
from tisslm.tracking.report.markup import Markup, data_block, join, table, tag
from tisslm.tracking.report.numbers import number_text, tick_texts


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (2.34567, "2.346"), (999.96, "1000"), (1234, "1234"), (12345.6, "12.35k"),
     (124_439_808, "124.4M"), (1_200_000, "1.2M"), (-2e9, "-2B"), (5e12, "5T"), (3e-5, "3e-5"),
     (-8.6712e-4, "-8.671e-4"), (0.001, "0.001"),
     (1e300, "1.00e+300"), (math.nan, "NaN"), (math.inf, "inf"), (-math.inf, "-inf")],
)  # fmt: skip
def test_numbers(value, text):
    assert number_text(value) == text


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_every_number_has_a_short_text(value):
    assert 0 < len(number_text(value)) <= 11


@given(st.floats(-1e9, 1e9), st.integers(-6, 6), st.integers(2, 8))
def test_ticks_are_told_apart(start, exponent, n):
    ticks = sorted({round(start) + i * 10.0**exponent for i in range(n)})
    assert len(set(tick_texts(ticks))) == len(ticks)


def test_ticks_have_no_more_digits_than_they_need():
    assert tick_texts([0.0, 0.5, 1.0]) == ["0", "0.5", "1"]
    assert tick_texts([2.0, 2.0005, 2.001]) == ["2", "2.0005", "2.001"]
    assert tick_texts([1e-4, 1e-3, 1e-2]) == ["1e-4", "0.001", "0.01"]


def test_elements():
    assert tag("p", "a < b & c", class_="x", data_step=3) == (
        '<p class="x" data-step="3">a &lt; b &amp; c</p>'
    )
    assert tag("a", tag("b", "x"), href='"><script>') == (
        '<a href="&quot;&gt;&lt;script&gt;"><b>x</b></a>'
    )
    assert tag("meta", name="n", content=None) == '<meta name="n">'
    assert tag("p", hidden=True, title=False) == "<p hidden></p>"
    assert join(["<", Markup("<br>")]) == "&lt;<br>"


def test_a_table_escapes_its_cells():
    text = table("of <i>", ["a&b"], [["<td>"]])
    assert "<i>" not in text
    assert '<th scope="row">&lt;td&gt;</th>' in text
    assert 'tabindex="0"' in text  # so that it scrolls by keyboard


@given(st.text())
def test_no_text_leaves_its_element(text):
    found = tag("p", text)
    inner = found.removeprefix("<p>").removesuffix("</p>")
    assert not re.search("[<>]", inner)
    text = visible(text)
    assert unescape(inner) == text or "\r" in text or "\0" in text or "&" in text


@given(st.dictionaries(st.text(), st.text() | st.floats() | st.lists(st.integers(0, 9))))
def test_data_is_json_that_ends_no_script(data):
    block = data_block("data", data)
    inner = block.partition(">")[2].removesuffix("</script>")
    assert not re.search("[<>&]", inner)
    back = json.loads(inner)
    for key, value in data.items():
        if isinstance(value, float):
            assert (back[visible(key)] is None) == (not math.isfinite(value))
        else:
            assert back[visible(key)] == (visible(value) if isinstance(value, str) else value)

"""dump_toml: what it writes is what tomllib reads."""

from __future__ import annotations

import datetime
import math
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisslm.config.toml_text import dump_toml
from tisslm.errors import ConfigError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.one_of(TEXTS, st.booleans(), st.integers(), st.floats(allow_nan=False))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal and of the same types (1, 1.0 and True differ)."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b) and repr(a) == repr(b)


def in_file_order(table: dict[str, Any]) -> dict[str, Any]:
    """Put values before tables, as the text does."""
    inner = {key: in_file_order(value) for key, value in table.items() if isinstance(value, dict)}
    return {key: value for key, value in table.items() if key not in inner} | inner


@settings(deadline=None)  # the machine may be busy
@given(st.dictionaries(TEXTS, VALUES, max_size=5))
def test_reading_gives_back_what_was_written(table: dict[str, Any]) -> None:
    read = tomllib.loads(dump_toml(table))
    assert read == table
    assert same(in_file_order(read), in_file_order(table))


def test_nan_is_written_as_toml_spells_it() -> None:
    assert dump_toml({"x": math.nan, "y": -math.inf}) == "x = nan\ny = -inf\n"


def test_the_text_is_what_a_person_would_write() -> None:
    table = {
        "training": {"seed": 1, "resume": "", "on": True, "lr": 1e-05},
        "log": {"sinks": ["console", "csv"], "csv": {"path": 'a "b"\n'}, "empty": {}},
    }
    assert dump_toml(table) == (
        '[training]\nseed = 1\nresume = ""\non = true\nlr = 1e-05\n\n'
        '[log]\nsinks = ["console", "csv"]\n\n'
        '[log.csv]\npath = "a \\"b\\"\\n"\n\n'
        "[log.empty]\n"
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            None,
            "training.x: expected a value that TOML can hold (string, number, boolean, list, "
            "table), got NoneType",
        ),
        (
            datetime.date(2024, 1, 1),
            "training.x: expected a value that TOML can hold (string, number, boolean, list, "
            "table), got date",
        ),
        ("\ud800", r"training.x: expected a string of valid Unicode, got '\ud800'"),
    ],
)
def test_what_toml_cannot_hold_is_refused(value: object, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        dump_toml({"training": {"x": value}})
    assert str(error.value) == message

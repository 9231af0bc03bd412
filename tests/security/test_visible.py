"""What a file, a name or a model says is shown on a terminal, and never done by it."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisslm.errors import DataError, TissLMError
from tisslm.errors.visible import visible

PACKAGE = Path(__file__).parents[2] / "tisslm"

#: Categories of Unicode: controls, formats, halves of surrogates, ends of lines and paragraphs.
ACTING = {"Cc", "Cf", "Cs", "Zl", "Zp"}

ACTS = [
    *map(chr, {*range(32), *range(0x7F, 0xA0)} - {9, 10}),
    *"\xad\u061c\u200b\u200e\u200f\u2028\u2029\u202a\u202e\u2060\u2066\u2069\ufeff\ud800\udfff",
    "\U000e0041",
]


@pytest.mark.parametrize("character", ACTS)
def test_a_character_that_acts_becomes_its_escape(character: str) -> None:
    shown = visible(f"a{character}b")
    assert shown.isascii()
    assert shown.isprintable()
    assert shown[1:-1] == repr(character)[1:-1]


@pytest.mark.parametrize(
    "text",
    ["", "plain", "a\tb\nc\r\nd", "日本語 e\u0301 \U0001f468\u200d\U0001f469", r"C:\x1b", "\ue000"],
)
def test_what_does_not_act_stays(text: str) -> None:
    assert visible(text) == text


@given(st.text(st.characters(codec=None)))
def test_nothing_that_acts_is_left_and_twice_is_once(text: str) -> None:
    shown = visible(text)
    left = {c for c in shown if unicodedata.category(c) in ACTING and ord(c) < 0x600}
    assert left <= {"\t", "\n", "\r"}
    assert not re.search("\r(?!\n)", shown)
    assert visible(shown) == shown


def test_an_error_as_text_is_visible() -> None:
    error = DataError("text\x1b]0;title\x07.txt: no such file")
    assert str(error) == r"text\x1b]0;title\x07.txt: no such file"
    assert str(TissLMError()) == ""


#: Ways to print past the functions that make text visible.
PRINTS = re.compile(r"\bprint\(|typer\.(echo|secho)|sys\.std(out|err)\.(write|buffer)|\bConsole\(")


def test_commands_print_by_one_door() -> None:
    found = {
        path.name
        for path in (PACKAGE / "cli").glob("*.py")
        if PRINTS.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"_terminal.py", "_progress.py"}  # a bar of numbers, drawn by rich


def test_nothing_else_prints() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name not in ("cli", "testing") and path.name != "_bar.py":
            code = re.sub(r'""".*?"""', "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
            assert not PRINTS.search(code), path

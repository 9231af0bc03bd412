"""The embedded text: long enough to learn from, the same each time, plain lines."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from tisslm.datasets import python_docs_text
from tisslm.errors import DataError


def test_the_text_is_long_readable_and_the_same_each_time() -> None:
    text = python_docs_text()
    assert len(text) > 300_000
    assert 'The "assert" statement' in text
    assert 'The "yield" statement' in text
    assert "\r" not in text
    assert text == python_docs_text()


def fake_topics(monkeypatch: pytest.MonkeyPatch, topics: dict[str, str]) -> None:
    """Let this Python carry these topics."""
    module = ModuleType("pydoc_data.topics")
    module.topics = topics  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", module)


def test_topics_are_joined_by_name_with_plain_line_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_topics(monkeypatch, {"with": "\r\nW\r\n  w\r\n\r\n", "assert": "A\ra\n"})
    assert python_docs_text() == "A\na\n\n\nW\n  w\n"


def test_a_python_without_documentation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(DataError) as caught:
        python_docs_text()
    assert str(caught.value) == (
        "python-docs: this Python was packaged without the module pydoc_data.topics; "
        "set data.path to a UTF-8 text file"
    )

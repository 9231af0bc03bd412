"""Text in parts: the documents of the readers, and pieces that are encoded alone."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisslm.datasets.sources import BadRecords, ReadOptions, read_documents
from tisslm.errors import DataError
from tisslm.tokenizers.byte import ByteTokenizer
from tisslm.workflows.tokenize import parts
from tisslm.workflows.tokenize.parts import Part, cut_parts, read_parts, separated


def documents(path, options=None):
    """The documents that the parts of a path make, as the readers' would be."""
    found, pieces = [], []
    for part in read_parts([path], options or ReadOptions()):
        pieces.append((part.text, part.learn))
        if part.ends:
            found.append(pieces)
            pieces = []
    assert not pieces
    return found


def joined(pieces):
    """Neighbours of one kind as one piece."""
    merged = []
    for text, learn in pieces:
        if merged and merged[-1][1] == learn:
            merged[-1] = (merged[-1][0] + text, learn)
        else:
            merged.append((text, learn))
    return merged


@pytest.mark.parametrize("separator", ["", "\n\n", "---"])
@pytest.mark.parametrize("text", ["one\n\ntwo", "\n\none\n\n\n\ntwo\n\n", "a---", "x" * 3000])
def test_parts_of_a_text_are_its_documents(tmp_path, monkeypatch, separator, text):
    monkeypatch.setattr("tisslm.datasets.sources.streams.BLOCK", 2)
    path = tmp_path / "a.txt"
    path.write_text(text)
    expected = read_documents(path, options=ReadOptions(document_separator=separator))
    found = documents(path, ReadOptions(document_separator=separator))
    assert [joined(pieces) for pieces in found] == [list(d.pieces) for d in expected]


def test_parts_of_a_folder_are_its_documents(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "t.txt").write_text("text")
    record = {"prompt": "p", "completion": "c"}
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(json.dumps(record).encode()))
    assert documents(tmp_path) == [[("p", False), ("c", True)], [("text", True), ("", True)]]


@given(blocks=st.lists(st.text("ab|", max_size=5)), separator=st.sampled_from(["|", "||", "a|a"]))
def test_separators_are_found_across_blocks(blocks, separator):
    found, text = [], ""
    for more, ends in separated(blocks, separator):
        text += more
        if ends:
            found.append(text)
            text = ""
    assert found == "".join(blocks).split(separator)


def test_a_text_without_characters_is_an_error(tmp_path):
    path = tmp_path / "a.txt"
    path.touch()
    with pytest.raises(DataError, match="expected a text, got an empty file"):
        documents(path)


def test_the_rest_of_a_bad_text_is_left_out_where_asked(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\n\ntw\xff")
    message = "got byte 0xff at offset 7 \\(line 3\\)"
    with pytest.raises(DataError, match=message):
        documents(path)
    bad = BadRecords("skip")
    with pytest.raises(DataError, match=message):  # nothing else is left of this file
        documents(path, ReadOptions(bad=bad))
    assert bad.skipped == 1


# --------------------------------------------------------------------------- cutting


def part(text, *, ends=True):
    return Part(text, True, ends, ends, "here")


@given(texts=st.lists(st.text("ab \n", max_size=40)), size=st.integers(1, 10))
def test_pieces_are_the_text_and_begin_at_safe_places(texts, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PIECE", size)
        given_parts = [*(part(text, ends=False) for text in texts), part("")]
        pieces = list(cut_parts(given_parts, lambda text, start: text.find(" ", start)))
    assert "".join(piece.text for piece in pieces) == "".join(texts)
    assert all(piece.text[0] == " " for piece in pieces[1:])
    assert all(len(piece.text) >= size for piece in pieces[:-1])
    assert [piece.ends for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def test_a_long_text_is_cut_into_many_pieces(monkeypatch):
    monkeypatch.setattr(parts, "PIECE", 10)
    pieces = list(cut_parts([part("a" * 95)], ByteTokenizer().find_cut))
    assert [len(piece.text) for piece in pieces] == [10] * 9 + [5]


def test_a_text_that_is_never_cut_is_an_error_at_last(monkeypatch):
    monkeypatch.setattr(parts, "MAX_UNCUT", 100)
    endless = (part("x" * 30, ends=False) for _ in range(10))
    with pytest.raises(DataError) as caught:
        list(cut_parts(endless, lambda text, start: -1))
    assert str(caught.value) == (
        "here: expected a place to cut the text within 100 characters, got none; break it into "
        "documents, or take a tokenizer that splits at spaces"
    )

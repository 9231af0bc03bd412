"""Text files: read exactly or refused with the place, split, and cut into windows."""

from __future__ import annotations

import errno
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import equal_rows

from tisslm.datasets import TextDataset, TokenDataset, read_text, split_text
from tisslm.errors import ConfigError, DataError
from tisslm.tokenizers import ByteTokenizer, CharTokenizer


def written(directory: Path, content: bytes) -> Path:
    """Write a file and return its path."""
    path = directory / "train.txt"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("text", ["a", "one\r\ntwo\n", "naïve — 日本 🜁", "\n", "a\ufeffb"])
def test_a_text_is_read_exactly(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text.encode())
    assert read_text(path) == read_text(str(path)) == text


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    assert read_text(written(tmp_path, b"\xef\xbb\xbfabc")) == "abc"


@pytest.mark.parametrize(
    ("content", "byte", "offset", "line"),
    [
        (b"\xff\xfea\x00", "0xff", 0, 1),  # UTF-16
        (b"caf\xe9\n", "0xe9", 3, 1),  # Latin-1
        (b"one\ntwo\nth\x80ree\n\xff", "0x80", 10, 3),
        ("日本\n語".encode()[:-1], "0xe8", 7, 2),  # cut short
        (b"\xef\xbb\xbfab\xc0\xaf", "0xc0", 5, 1),  # the offset counts the mark; overlong form
        (b"\xed\xa0\x80", "0xed", 0, 1),  # a surrogate
    ],
)
def test_invalid_utf8_is_refused_with_its_place(
    tmp_path: Path, content: bytes, byte: str, offset: int, line: int
) -> None:
    path = written(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read_text(path)
    assert str(caught.value) == (
        f"{path}: expected UTF-8 text, got byte {byte} at offset {offset} (line {line}); "
        "convert the file, for example with iconv -t UTF-8"
    )


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read_text(path)
    assert str(caught.value) == (
        f"{path}: expected a text, got an empty file; give a file with text in it"
    )


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_text(tmp_path / "none.txt")
    assert str(caught.value) == (
        f"{tmp_path / 'none.txt'}: no such file; give the path of a UTF-8 text file"
    )


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_text(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: expected a text file, got a directory; give the path of one UTF-8 text file"
    )


def test_a_file_that_cannot_be_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    # Tests may run as root, who can read everything.
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError) as caught:
        read_text("secret.txt")
    assert str(caught.value) == (
        "secret.txt: cannot be read (Permission denied); check the path and its permissions"
    )


@given(data=st.text(), fraction=st.floats(0, 1, exclude_max=True))
def test_a_split_loses_nothing(data: str, fraction: float) -> None:
    train, valid = split_text(data, fraction)
    assert train + valid == data
    assert len(train) == int(len(data) * (1 - fraction))


@given(n=st.integers(0, 10**7))
def test_a_tenth_is_split_off_as_in_nanogpt(n: int) -> None:
    tokens = np.broadcast_to(np.uint8(0), n)
    train, valid = split_text(tokens, 0.1)
    assert (len(train), len(valid)) == (int(n * 0.9), n - int(n * 0.9))


def test_tokens_are_split_like_their_text() -> None:
    text = "abcabcabcab"
    tokenizer = CharTokenizer.from_text(text)
    train, valid = split_text(text)
    assert [tokenizer.encode(train), tokenizer.encode(valid)] == list(
        split_text(tokenizer.encode(text))
    )


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 2, float("nan")])
def test_a_fraction_out_of_bounds_is_refused(fraction: float) -> None:
    with pytest.raises(ConfigError) as caught:
        split_text("abc", fraction)
    assert str(caught.value) == (
        f"valid_fraction: expected a number of at least 0 and below 1, got {fraction!r}"
    )


def test_a_text_dataset_has_the_windows_of_its_tokens(tmp_path: Path) -> None:
    text = "to be or not to be, that is the question\n" * 3
    path = written(tmp_path, text.encode())
    tokenizer = CharTokenizer.from_text(text)
    dataset = TextDataset(path, tokenizer, 8, batch_size=4, seed=2)
    tokens = TokenDataset(tokenizer.encode(text), 8, batch_size=4, seed=2)
    assert len(dataset) == len(tokens) == (len(text) - 1) // 8
    assert (dataset.vocab_size, dataset.seq_len) == (tokenizer.vocab_size, 8)
    assert tokenizer.decode(dataset.window(1).x) == text[8:16]
    assert tokenizer.decode(dataset.window(1).y) == text[9:17]
    assert dataset.order(1, 2)[:] == tokens.order(1, 2)[:]
    for ours, theirs in zip(dataset, tokens, strict=True):
        assert equal_rows(ours, theirs)
    ours, theirs = (next(islice(d.batches(5, 0, 9), 1)) for d in (dataset, tokens))
    assert equal_rows(ours, theirs)


def test_the_founding_form_waits_for_a_seq_len(tmp_path: Path) -> None:
    path = written(tmp_path, b"0123456789")
    dataset = TextDataset(path, ByteTokenizer())
    assert dataset.seq_len == 0
    message = (
        f"{path}: seq_len is not set; give it to the constructor, "
        "or build a Trainer with this dataset first"
    )
    for use in (len, lambda d: d.window(0), lambda d: d.order(0, 0), lambda d: d.batches(1, 0)):
        with pytest.raises(ConfigError) as caught:
            use(dataset)
        assert str(caught.value) == message
    dataset.seq_len = 3
    assert (dataset.seq_len, len(dataset)) == (3, 3)
    dataset.seq_len = 9
    assert (dataset.seq_len, len(dataset)) == (9, 1)


def test_a_text_that_is_too_short_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, b"0123")
    with pytest.raises(DataError) as caught:
        TextDataset(path, ByteTokenizer(), seq_len=4)
    assert str(caught.value) == (
        f"{path}: dataset: expected at least 5 tokens for one window of seq_len 4 and its last "
        "target, got 4; give a longer text or a smaller seq_len"
    )


def test_a_text_that_the_tokenizer_refuses_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, b"abxc")
    with pytest.raises(DataError) as caught:
        TextDataset(path, CharTokenizer(characters="abc"), seq_len=2)
    assert str(caught.value).startswith(f"{path}: char tokenizer: the character 'x' (U+0078) at ")

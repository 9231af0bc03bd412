"""Files of ranks: each way of being wrong is named with file and line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tisslm_tiktoken import ranks as module
from tisslm_tiktoken.ranks import format_ranks, parse_ranks, read_ranks

from tisslm.errors import DataError


def test_what_is_written_is_read(ranks: dict[bytes, int], file: Path) -> None:
    assert read_ranks(file) == ranks
    assert format_ranks(ranks) == file.read_text()
    assert parse_ranks(format_ranks(ranks).replace("\n", "\r\n\r\n"), "x") == ranks


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "YWI=",
            "expected a token in base64 and its rank, got 'YWI='; check that it is a .tiktoken "
            "file",
        ),
        (
            "YWI= 400 1",
            "expected a token in base64 and its rank, got 'YWI= 400 1'; check that it is a "
            ".tiktoken file",
        ),
        (
            "Y!I= 400",
            "expected a token in base64, got 'Y!I= 400'; check that it is a .tiktoken file",
        ),
        ("= 400", "expected a token in base64, got '= 400'; check that it is a .tiktoken file"),
        (
            "YWI= -1",
            "expected a rank from 0 to 4194303, got '-1'; check that it is a .tiktoken file",
        ),
        (
            "YWI= 1_0",
            "expected a rank from 0 to 4194303, got '1_0'; check that it is a .tiktoken file",
        ),
        (
            "YWI= 4194304",
            "expected a rank from 0 to 4194303, got '4194304'; check that it is a .tiktoken file",
        ),
        (
            "YWI= " + "9" * 10_000,
            "expected a rank from 0 to 4194303, got '99999999999999999999'; check that it is a "
            ".tiktoken file",
        ),
        (
            "YQ== 400",
            "token b'a' was already given in line 98; keep one of the two",
        ),
        (
            "enh6 97",
            "rank 97 was already given in line 98; each token needs a rank of its own",
        ),
    ],
)
def test_a_wrong_line_is_named(file: Path, line: str, message: str) -> None:
    content = file.read_text().splitlines()
    file.write_text("\n".join([*content[:300], line, *content[300:]]))
    with pytest.raises(DataError) as caught:
        read_ranks(file)
    assert str(caught.value) == f"{file}, line 301: {message}"


def test_bytes_that_are_no_text_are_named(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100] + b"\xff" + file.read_bytes()[100:])
    line = file.read_bytes()[:100].count(b"\n") + 1
    with pytest.raises(DataError) as caught:
        read_ranks(file)
    assert str(caught.value) == (
        f"{file}, line {line}: expected a token in base64 and its rank, got byte 0xff; check that "
        "it is a .tiktoken file"
    )


def test_a_file_that_was_cut_is_named(file: Path) -> None:
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:200]))
    with pytest.raises(DataError) as caught:
        read_ranks(file)
    assert str(caught.value) == (
        f"{file}: expected all 256 single bytes among the tokens, got 200 (missing: 0xc8); check "
        "that the file is whole"
    )


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_ranks(tmp_path / "none")
    assert str(caught.value) == (
        f"{tmp_path / 'none'}: cannot be read (No such file or directory); set tokenizer.path to a "
        ".tiktoken file, which has a token in base64 and its rank in each line"
    )
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(DataError) as caught:
            read_ranks(path)
        assert str(caught.value) == (
            f"{path}: expected a .tiktoken file, got something that is no ordinary file; set "
            "tokenizer.path to the file of ranks"
        )


def test_a_file_that_is_too_large_is_not_read_whole(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    with pytest.raises(DataError) as caught:
        read_ranks(file)
    assert str(caught.value) == (
        f"{file}: expected at most 1000 characters of ranks, got more; check that it is a "
        ".tiktoken file"
    )

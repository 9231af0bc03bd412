"""Token files of nanoGPT and llm.c: mapped, checked, never trusted."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tisslm.datasets import PackedDataset
from tisslm.datasets.sources import ReadOptions, find_format, read_documents, read_tokens
from tisslm.errors import DataError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(path: str, **options: int) -> str:
    with pytest.raises(DataError) as caught:
        read_tokens(path, options=ReadOptions(**options))
    return str(caught.value)


def nanogpt(ids: object = range(50), path: str = "train.bin") -> str:
    np.array(ids, dtype="<u2").tofile(path)
    return path


def llmc(
    ids: object = (1, 2, 50256, 3),
    magic: int = 20240520,
    version: int = 1,
    count: int | None = None,
) -> str:
    ids = np.array(ids, dtype="<u4" if magic == 20240801 else "<u2")
    header = np.zeros(256, "<i4")
    header[:3] = magic, version, len(ids) if count is None else count
    Path("c.bin").write_bytes(header.tobytes() + ids.tobytes())
    return "c.bin"


def test_nanogpt_is_one_document_of_ids_that_stay_in_the_file() -> None:
    found = read_tokens(nanogpt())
    assert found.tokens[:].tolist() == list(range(50))
    assert (len(found), found.vocab_size, found.nbytes) == (1, 50, found.offsets.nbytes)


@pytest.mark.parametrize("scan", [1, 3, 2**22])
def test_documents_end_after_the_end_of_text(monkeypatch: pytest.MonkeyPatch, scan: int) -> None:
    monkeypatch.setattr("tisslm.datasets.sources.token_files.SCAN_TOKENS", scan)
    path = nanogpt([7, 1, 2, 7, 3, 7])
    options = ReadOptions(end_of_text=7)
    assert read_tokens(path, options=options).offsets.tolist() == [0, 1, 4, 6]
    found = read_tokens(nanogpt([1, 7, 2]), options=options)
    assert found.offsets.tolist() == [0, 2, 3]


def test_the_vocabulary_is_said_by_meta_json(folder: Path) -> None:
    path = nanogpt()
    (folder / "meta.json").write_text('{"vocab_size": 65}')
    (folder / "meta.pkl").write_bytes(b"cos\nsystem\n(S'touch planted'\ntR.")
    assert read_tokens(path).vocab_size == 65
    assert read_tokens(path, options=ReadOptions(vocab_size=80)).vocab_size == 80
    assert not (folder / "planted").exists()


def test_a_meta_pkl_is_never_read(folder: Path) -> None:
    (folder / "meta.pkl").write_bytes(b"cos\nsystem\n(S'touch planted'\ntR.")
    with pytest.warns(UserWarning, match="pkl") as caught:
        assert read_tokens(nanogpt()).vocab_size == 50
    assert [str(w.message) for w in caught] == [
        "meta.pkl is never read, because reading it could run any program; the vocabulary is the "
        'largest id plus one. Set data.vocab_size, or write {"vocab_size": ...} to meta.json'
    ]
    assert not (folder / "planted").exists()


@pytest.mark.parametrize("content", ["[1]", '{"vocab_size": "65"}', "{}", '{"vocab_size": true}'])
def test_a_wrong_meta_json_is_refused(folder: Path, content: str) -> None:
    (folder / "meta.json").write_text(content)
    assert refused(nanogpt()).startswith('meta.json: expected {"vocab_size": an integer >= 1} (')


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[" * 10**6, "expected JSON of at most 64 levels, got more"),
        (
            '{"vocab_size": 1' + "0" * 10**5 + "}",
            "expected an integer that float64 has, got one of 100001 digits",
        ),
        ('{"vocab_size": 65, "vocab_size": 66}', "the key 'vocab_size' is there twice"),
        ('{"vocab_size": 0}', "got '0'"),
        (None, "expected a regular file, got a FIFO"),
    ],
)
def test_a_hostile_meta_json_is_refused(folder: Path, content: str | None, reason: str) -> None:
    if content is None:
        os.mkfifo(folder / "meta.json")
    else:
        (folder / "meta.json").write_text(content)
    assert refused(nanogpt()).startswith(
        f'meta.json: expected {{"vocab_size": an integer >= 1}} ({reason}'
    )


def test_ids_are_checked() -> None:
    assert refused(nanogpt([1, 2, 65, 3]), vocab_size=65) == (
        "train.bin: dataset: token id 65 at position 2 is not in range(65), the vocabulary; use "
        "the tokenizer that made the tokens, or set vocab_size to at least the largest id plus one"
    )


def test_odd_empty_missing_and_strange_files(folder: Path) -> None:
    (folder / "odd.bin").write_bytes(b"abc")
    assert refused("odd.bin") == (
        "odd.bin: expected uint16 token ids, got an odd number of bytes (3); copy the file again"
    )
    (folder / "empty.bin").write_bytes(b"")
    assert refused("empty.bin") == "empty.bin: expected token ids, got an empty file"
    with pytest.raises(DataError, match=r"^train\.bin: expected text, got tokens of nanoGPT; name"):
        list(read_documents(nanogpt()))
    (folder / "a.txt").write_text("a")
    assert refused("a.txt") == "a.txt: expected token ids, got a text; tokenize it first"


@pytest.mark.parametrize(
    ("magic", "version", "kind", "vocab_size"),
    [(20240520, 1, "uint16", 50257), (20240801, 7, "uint32", 128256)],
)
def test_llmc_has_documents_and_a_vocabulary(
    magic: int, version: int, kind: str, vocab_size: int
) -> None:
    end = 50256 if version == 1 else 128000
    found = read_tokens(llmc([end, 1, 2, end, 3], magic, version))
    assert (found.tokens.dtype, found.vocab_size) == (kind, vocab_size)
    assert found.tokens[:].tolist() == [end, 1, 2, end, 3]
    assert found.offsets.tolist() == [0, 1, 4, 5]
    assert find_format("c.bin").name == "llm.c"


def test_a_header_that_does_not_fit_is_refused() -> None:
    sizes = "expected 1044 bytes for the 10 tokens that the header says, got 1032; copy the file"
    assert refused(llmc(count=10)) == f"c.bin: {sizes} again"
    assert refused(llmc(count=-1)).startswith("c.bin: expected 1024 bytes for the -1 tokens")
    assert refused(llmc(version=2)) == (
        "c.bin: expected version 1 of llm.c's tokens (magic 20240520), got 2; write the file again"
    )
    assert refused(llmc(magic=20240522)) == (
        "c.bin: expected llm.c's tokens (magic 20240520 or 20240801), got a multiple-choice "
        "evaluation"
    )
    Path("c.bin").write_bytes(Path(llmc()).read_bytes()[:800])
    assert refused("c.bin") == (
        "c.bin: expected the 1024 bytes of llm.c's header, got 800; copy the file again"
    )


def test_a_file_that_is_cut_or_written_is_found_before_it_is_read(folder: Path) -> None:
    dataset = PackedDataset(read_tokens(nanogpt(range(9000))), 100)
    stream = dataset.stream(80, 0)
    first = next(stream).x.copy()
    os.truncate("train.bin", 100)
    with pytest.raises(DataError) as caught:
        next(dataset.stream(80, 0))
    assert str(caught.value) == (
        "train.bin: expected 18000 bytes as when it was opened, got 100; do not write a file that "
        "a run reads, replace it by rename"
    )
    dataset = PackedDataset(read_tokens(nanogpt(range(9000), "new.bin")), 100)
    (folder / "other").write_bytes(b"\0" * 40)
    (folder / "other").rename("new.bin")
    assert np.array_equal(next(dataset.stream(80, 0)).x, first)
    dataset = PackedDataset(read_tokens(nanogpt(range(9000), "c.bin")), 100)
    os.utime("c.bin", ns=(1, 1))
    with pytest.raises(DataError, match=r"^c\.bin: was written since it was opened; do not write"):
        next(dataset.stream(80, 0))

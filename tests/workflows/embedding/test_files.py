"""Files of texts to arrays of vectors: what is read, what is written, what is refused."""

from __future__ import annotations

import gc
import gzip
import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from letters import Letters

from tisslm.errors import DataError
from tisslm.tokenizers import ByteTokenizer
from tisslm.workflows.embedding import TextEmbedder, embed_file, files
from tisslm.workflows.embedding.files import npy_header


def embed(source: Path, output: Path, **options: Any) -> Any:
    return embed_file(TextEmbedder(Letters(), ByteTokenizer()), source, output, **options)


@pytest.mark.parametrize("rows", [1, 10**15])
def test_the_header_is_as_long_for_any_number_of_rows(rows: int) -> None:
    assert len(npy_header(rows, 768, np.dtype(np.float32))) == 128


def test_each_line_is_a_row(tmp_path: Path) -> None:
    source, output = tmp_path / "a.txt", tmp_path / "a.npy"
    source.write_bytes(b"\xef\xbb\xbfaab\r\nb\xc3\xa4c\nf")
    seen: list[int] = []
    done = embed(source, output, progress=lambda now: seen.append(now.texts))
    assert np.load(output).tolist() == [[2, 1, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1]]
    assert np.load(output, mmap_mode="r").dtype == np.float32
    assert (done.texts, done.size, seen) == (3, 6, [3])
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["a.npy", "a.txt"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_field_of_json_lines_is_a_row(tmp_path: Path, name: str) -> None:
    lines = "".join(json.dumps({"body": text, "n": 1}) + "\n" for text in ("ab", "c"))
    data = lines.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    embed(tmp_path / name, tmp_path / "a.npy", text_field="body", dimensions=3, normalize=False)
    assert np.load(tmp_path / "a.npy").tolist() == [[1, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"a\n\nb\n", ", line 2: expected a text, got an empty one; remove or fill"),
        ("a.txt", b"", ": expected a text, got an empty file; give one with some"),
        ("a.txt", b"a\n\xff", ": expected UTF-8 text, got byte 0xff at offset 2 (line 2); convert"),
        ("a.jsonl", b'{"body": "a"}', ", line 1: expected a field 'text', got the fields 'body'; "
         "name the field of the text with --field"),
        ("a.jsonl", b'{"text": 3}', ", line 1: expected 'text' to be a text, got a number; mend"),
        ("a.jsonl", b'{"text": ""}', ", line 1: expected a text, got an empty one"),
        ("a.jsonl", b'{"text": ', ", line 1: expected a JSON object, got invalid JSON ("),
    ],
)  # fmt: skip
def test_bad_files_are_refused_and_nothing_is_left(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    source = tmp_path / name
    source.write_bytes(content)
    with pytest.raises(DataError) as caught:
        embed(source, tmp_path / "a.npy")
    assert str(caught.value).startswith(f"{source}{message}")
    assert list(tmp_path.iterdir()) == [source]


def test_a_full_disk_is_told_in_a_sentence_and_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    @contextmanager
    def replacing(path: Path) -> Iterator[Full]:
        yield Full()

    monkeypatch.setattr(files, "replacing", replacing)
    (tmp_path / "a.txt").write_text("a\n")
    with pytest.raises(DataError) as caught:
        embed(tmp_path / "a.txt", tmp_path / "a.npy")
    assert str(caught.value) == (
        f"{tmp_path}/a.npy: the vectors cannot be written (No space left on device); make room, or "
        "name another file, and start again"
    )


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a\n")
    with pytest.raises(DataError, match=r"none/a.npy: the vectors cannot be written \(No such"):
        embed(tmp_path / "a.txt", tmp_path / "none" / "a.npy")


def test_memory_does_not_grow_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tisslm.workflows.embedding.embedder.CHUNK_TEXTS", 16)
    line = "abc def " * 50 + "\n"
    peaks, sizes = [], []
    for lines in (100, 1400):
        sizes.append((tmp_path / "a.txt").write_text(line * lines))
        model = TextEmbedder(Letters(), ByteTokenizer())
        gc.collect()
        tracemalloc.start()
        for _ in model.encode_stream(files.read_texts(tmp_path / "a.txt")):
            model.model.passes.clear()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Other threads of the tests' process are counted too, with some tens of kilobytes; a file that
    # is kept would add the half megabyte by which the second is longer.
    assert peaks[1] - peaks[0] < 0.1 * (sizes[1] - sizes[0])


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    source, output = tmp_path / "a.txt", tmp_path / "a.npy"

    def change(_: Any) -> None:
        source.write_text("")

    source.write_text("ab\n" * 9)
    with pytest.raises(DataError, match=r"a.txt: the file has changed while it was read, so texts"):
        embed(source, output, progress=change)
    assert not output.exists()
    source.write_text("ab\n" * 9)
    embed(source, output, progress=lambda _: source.unlink())  # what was opened stays whole
    assert len(np.load(output)) == 9

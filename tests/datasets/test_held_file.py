"""Arrays that stay in files: what they read, and what they say of a file that was changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisslm import TokenDataset
from tisslm.datasets.documents import TokenDocuments
from tisslm.datasets.held_file import FileArray, HeldFile, unmapped
from tisslm.datasets.offsets import FileOffsets, offsets_in
from tisslm.datasets.packed import PackedDataset
from tisslm.datasets.sources import read_tokens
from tisslm.errors import DataError
from tisslm.tokenizers.byte import ByteTokenizer
from tisslm.workflows.tokenize import ShardFolder

SPANS = st.tuples(st.integers(-5, 45), st.integers(-5, 45))
TOKENS = 40_000


def nanogpt(folder: Path) -> tuple[Path, Path]:
    """Return what to read, and the file that lies behind it."""
    (np.arange(TOKENS) % 200).astype("<u2").tofile(folder / "train.bin")
    return folder / "train.bin", folder / "train.bin"


def llmc(folder: Path) -> tuple[Path, Path]:
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, 1, TOKENS
    ids = (np.arange(TOKENS) % 200).astype("<u2")
    (folder / "train.bin").write_bytes(header.tobytes() + ids.tobytes())
    return folder / "train.bin", folder / "train.bin"


def shards(folder: Path) -> Path:
    with ShardFolder(folder / "shards", ByteTokenizer(), "byte", TOKENS // 2) as made:
        for first in range(0, TOKENS, 100):
            made.split("train").add((np.arange(first, first + 100) % 200), first % 300 > 0)
            made.split("train").end_document()
        made.finish()
    return folder / "shards"


def of_shards(name: str):
    return lambda folder: (shards(folder), folder / "shards" / name)


FILES = {
    "nanogpt": nanogpt,
    "llm.c": llmc,
    "ids": of_shards("train-00001.bin"),
    "index": of_shards("train.idx"),
    "mask": of_shards("train.mask"),
}


# --------------------------------------------------------------------------- what is read


@given(size=st.integers(0, 40), skipped=st.integers(0, 3), span=SPANS, inner=SPANS)
def test_a_file_is_an_array_by_its_spans(tmp_path_factory, size, skipped, span, inner):
    path = tmp_path_factory.mktemp("files") / "numbers"
    whole = np.arange(size, dtype="<u2")
    path.write_bytes(bytes(skipped) + whole.tobytes())
    array = FileArray(HeldFile(path), "<u2", skipped)
    assert (len(array), array.shape, array.nbytes) == (size, (size,), 0)
    assert np.array_equal(array[slice(*span)], whole[slice(*span)])
    part = array.span(*span)
    assert np.array_equal(part[slice(*inner)], whole[slice(*span)][slice(*inner)])


@given(steps=st.lists(st.integers(1, 9), min_size=1, max_size=60), value=st.integers(-3, 300))
def test_offsets_are_found_as_in_memory(tmp_path_factory, steps, value):
    whole = np.cumsum([0, *steps]).astype("<i8")
    path = tmp_path_factory.mktemp("files") / "offsets"
    whole.tofile(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tisslm.datasets.offsets.STRIDE", 4)
        patch.setattr("tisslm.datasets.offsets.SCAN_OFFSETS", 8)
        found = FileOffsets(FileArray(HeldFile(path), "<i8"))
        assert (len(found), found.nbytes) == (len(whole), 8 * -(-len(whole) // 4))
        assert found.searchsorted(value) == whole.searchsorted(value)
        for end in (value, value + 1, value + 20):
            expected = [n for n in whole.tolist() if value <= n < end]
            assert offsets_in(found, value, end).tolist() == expected
            assert offsets_in(whole, value, end).tolist() == expected
    assert np.array_equal(np.asarray(found), whole)
    assert [found[0], found[-1]] == [whole[0], whole[-1]]


def test_a_map_is_read_from_its_file(tmp_path):
    path = tmp_path / "tokens.bin"
    whole = np.arange(20_000, dtype=np.uint16)
    path.write_bytes(bytes(6) + whole.tobytes())
    mapped = np.memmap(path, np.uint16, "r", offset=6)
    for part in (slice(None), slice(7000, 9000), slice(3, 4)):
        found = unmapped(mapped[part])
        assert isinstance(found, FileArray)
        assert np.array_equal(found[:], whole[part])


def test_other_maps_stay_what_they_are(tmp_path):
    path = tmp_path / "tokens.bin"
    np.arange(20_000, dtype=np.uint16).tofile(path)
    private = np.memmap(path, np.uint16, "c")
    private[:] = 7
    assert np.array_equal(unmapped(private), private)
    mapped = np.memmap(path, np.uint16, "r")
    assert np.array_equal(unmapped(mapped[::2]), mapped[::2])
    other = tmp_path / "other"
    np.zeros(20_000, dtype=np.uint16).tofile(other)
    other.replace(path)  # the map is of the file that has no name any more
    assert unmapped(mapped)[:3].tolist() == [0, 1, 2]


# --------------------------------------------------------------------------- what was changed

READ = """
import sys
from pathlib import Path
import numpy as np
from tisslm.datasets.packed import PackedDataset
from tisslm.datasets.sources import read_tokens
from tisslm.datasets.tokens import TokenDataset
from tisslm.errors import DataError
path, file, how = sys.argv[1:]
if how == "memmap":
    dataset = TokenDataset(np.memmap(path, np.uint16, "r"), 50)
else:
    dataset = PackedDataset(read_tokens(path), 50)
stream = dataset.stream(8, seed=1)
next(stream)
with open(file, "r+b") as opened:
    opened.truncate(10)
try:
    if how == "window":
        [dataset.window(i) for i in range(len(dataset))]
    else:
        [next(stream) for _ in range(len(dataset) // 8)]
except DataError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("kind", "how"),
    [*((kind, how) for kind in FILES for how in ("stream", "window")), ("nanogpt", "memmap")],
)
def test_a_file_that_is_cut_does_not_end_the_process(tmp_path, kind, how):
    path, file = FILES[kind](tmp_path)
    command = [sys.executable, "-W", "error", "-c", READ, str(path), str(file), how]
    size = file.stat().st_size
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"{file}: expected {size} bytes as when it was opened, got 10; do not write a file that a "
        "run reads, replace it by rename\n"
    )


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_written_is_noticed_at_the_next_batch(tmp_path, kind):
    path, file = FILES[kind](tmp_path)
    stream = PackedDataset(read_tokens(path), 50).stream(400, seed=1)  # of both files
    next(stream)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    with file.open("r+b") as opened:  # in place, and as long as it was
        opened.write(content)
    with pytest.raises(DataError) as caught:
        next(stream)
    assert str(caught.value) == (
        f"{file}: was written since it was opened; do not write a file that a run reads, replace "
        "it by rename"
    )


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_renamed_or_deleted_stays_what_it_was(tmp_path, kind):
    path, file = FILES[kind](tmp_path)
    dataset = PackedDataset(read_tokens(path), 50)
    first = next(dataset.batches(len(dataset), 1))
    file.unlink()
    stream = dataset.batches(len(dataset), 1)
    assert all(np.array_equal(a, b) for a, b in zip(next(stream), first, strict=True))
    file.write_bytes(b"another")
    next(stream)  # in the next epoch, too


def test_an_array_of_its_own_documents_may_be_mapped(tmp_path):
    np.arange(100, dtype=np.uint16).tofile(tmp_path / "tokens")
    np.array([0, 30, 100]).tofile(tmp_path / "offsets")
    tokens = np.memmap(tmp_path / "tokens", np.uint16, "r")
    offsets = np.memmap(tmp_path / "offsets", np.int64, "r")
    documents = TokenDocuments(tokens, offsets)
    assert documents.document(1)[0].tolist() == list(range(30, 100))
    os.truncate(tmp_path / "offsets", 8)
    with pytest.raises(DataError, match=r"offsets: expected 24 bytes as when it was opened, got 8"):
        documents.document(1)
    dataset = TokenDataset(tokens, 10)
    os.truncate(tmp_path / "tokens", 8)
    with pytest.raises(DataError, match=r"tokens: expected 200 bytes as when it was opened, got 8"):
        dataset.window(0)

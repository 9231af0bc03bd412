"""Every damage of every file of a checkpoint is found, named, and never loaded."""

from __future__ import annotations

import itertools
import os
import re
import shutil

import pytest
from checkpoints import small

from tisslm import checkpoint
from tisslm.errors import CheckpointError
from tisslm.system.tensor_files import TensorFile

FILES = [
    "config.json",
    "manifest.json",
    "model.safetensors",
    "optimizer.safetensors",
    "tokenizer_state.json",
    "trainer.safetensors",
    "trainer_state.json",
]
TENSORS = ["model.safetensors", "optimizer.safetensors", "trainer.safetensors"]
BLOCK = 4096


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two checkpoints; each test puts back what it changes."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for step in (1, 2):
        small(folder, step)
    return folder


@pytest.fixture
def saved(folder):
    path = folder / "checkpoint-2"
    assert sorted(os.listdir(path)) == FILES
    before = {name: (path / name).read_bytes() for name in FILES}
    yield path
    for name, content in before.items():
        (path / name).write_bytes(content)
    checkpoint.read(path)  # the damage was the damage, and not what was there before


def refused(path, name) -> str:
    """Return the reason why a checkpoint cannot be read, which names the file."""
    with pytest.raises(CheckpointError) as caught:
        checkpoint.read(path)
    start = f"{path / name}: the checkpoint is damaged or incomplete (expected "
    end = "); use an earlier one"
    text = str(caught.value)
    assert text.startswith(start)
    assert text.endswith(end)
    return text[len(start) : -len(end)]


def header_end(data: bytes) -> int:
    return 8 + int.from_bytes(data[:8], "little")


def flipped(saved, name, at: int, bit: int) -> str:
    path = saved / name
    with path.open("r+b", buffering=0) as file:
        old = os.pread(file.fileno(), 1, at)
        os.pwrite(file.fileno(), bytes([old[0] ^ bit]), at)
        try:
            return refused(saved, name)
        finally:
            os.pwrite(file.fileno(), old, at)


@pytest.mark.parametrize("name", TENSORS)
def test_every_byte_of_a_header(saved, name):
    for at in range(header_end((saved / name).read_bytes())):
        assert flipped(saved, name, at, 1 << at % 8).startswith("SHA-256 ")


@pytest.mark.parametrize("name", [n for n in FILES if n not in TENSORS])
def test_every_byte_of_a_text(saved, name):
    for at in range((saved / name).stat().st_size):
        assert flipped(saved, name, at, 1 << at % 8)


@pytest.mark.parametrize("name", TENSORS)
def test_every_block_of_data(saved, name):
    size = (saved / name).stat().st_size
    assert size > 8 * BLOCK
    for start in range(0, size, BLOCK):
        at = start + (start * 1009) % min(BLOCK, size - start)
        assert flipped(saved, name, at, 128).startswith("SHA-256 ")


def lengths(name, data: bytes) -> list[int]:
    """Return the lengths that a file may be cut to: about its start, its parts, and its end."""
    found = {0, 1, 7, 8, len(data) // 2, len(data) - 1}
    if name in TENSORS:
        end = header_end(data)
        found |= {end // 2, end - 1, end, end + 1}
        # arrays follow each other, so the ends are the sums of their sizes in order of the offset
        sizes = re.findall(rb'"data_offsets":\[\d+,(\d+)\]', data[:end])
        found |= {end + int(last) for last in sizes} - {len(data)}
    return sorted(found)


@pytest.mark.parametrize("name", FILES)
def test_every_length_that_a_file_may_be_cut_to(saved, name):
    data = (saved / name).read_bytes()
    cuts = lengths(name, data)
    assert len(cuts) > (20 if name in TENSORS else 4)
    for length in cuts:
        (saved / name).write_bytes(data[:length])
        reason = refused(saved, name)
        assert name == "manifest.json" or reason == f"{len(data)} bytes, got {length}"


@pytest.mark.parametrize("name", FILES)
def test_a_byte_too_many(saved, name):
    with (saved / name).open("ab") as file:
        file.write(b"\n")
    assert refused(saved, name)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing(saved, name):
    (saved / name).unlink()
    expected = (
        "a manifest, got none: it was not written or copied to the end, or by a version without "
        "manifests"
    )
    reason = refused(saved, name)
    assert reason == expected or re.fullmatch(r"a file of \d+ bytes, got none", reason)


@pytest.mark.parametrize("name", [*TENSORS, "trainer_state.json"])
def test_a_file_of_another_checkpoint(saved, name):
    shutil.copyfile(saved.with_name("checkpoint-1") / name, saved / name)
    assert refused(saved, name)


def test_a_manifest_of_another_checkpoint(saved):
    shutil.copyfile(saved.with_name("checkpoint-1") / "manifest.json", saved / "manifest.json")
    assert refused(saved, "model.safetensors")


@pytest.mark.parametrize(("name", "other"), [*itertools.permutations(TENSORS, 2)])
def test_two_files_of_arrays_exchanged(saved, name, other):
    first, second = (saved / name).read_bytes(), (saved / other).read_bytes()
    (saved / name).write_bytes(second)
    (saved / other).write_bytes(first)
    assert refused(saved, min(name, other))


def test_a_file_that_the_manifest_does_not_have_is_never_opened(saved):
    os.mkfifo(saved / "pytorch_model.bin")  # who opens it waits for ever
    (saved / "tokenizer.json").write_text("not a tokenizer")
    try:
        assert checkpoint.read_tokenizer(checkpoint.read(saved))["name"] == "char"
    finally:
        (saved / "pytorch_model.bin").unlink()
        (saved / "tokenizer.json").unlink()


def test_zeros_that_a_power_failure_left(saved):
    for name in FILES:
        data = (saved / name).read_bytes()
        (saved / name).write_bytes(bytes(len(data)))
        assert refused(saved, name)
        (saved / name).write_bytes(data)


def test_damage_is_passed_over_by_what_looks_for_a_checkpoint(saved):
    (saved / "trainer_state.json").write_text("{}\n")
    with pytest.warns(RuntimeWarning, match=r"checkpoint-2 is damaged \(trainer_state.json: exp"):
        assert checkpoint.resolve(saved.parent).name == "checkpoint-1"


def kinds(file: TensorFile) -> list[tuple[tuple[int, ...], str]]:
    return sorted((shape, str(dtype)) for shape, dtype in map(file.kind, file))


def test_the_reader_alone_finds_damage_of_structure(saved):
    path = saved / "model.safetensors"
    before, data, read = kinds(TensorFile(path)), path.read_bytes(), 0
    for at in range(header_end(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        try:
            found = TensorFile(path)
        except CheckpointError:
            continue
        assert kinds(found) == before  # a letter of a name has changed
        read += 1
    assert read < header_end(data) // 2

"""GGUF files: those of the format's own library, and those that are wrong."""

from __future__ import annotations

import struct
import time
import tracemalloc

import numpy as np
import pytest

from tisslm.errors import CheckpointError, ConfigError
from tisslm.system.gguf_files import GgufFile, Tensor, gguf_chunks
from tisslm.system.gguf_files.kinds import TENSORS, tensor_kind

F32 = tensor_kind("F32")
KEYS = {"general.architecture": "llama", "some.truth": True, "some.list": ["a", "é", ""]}


def tensor(array, kind=F32):
    return Tensor(array.shape, kind, lambda: array)


def write(path, metadata, tensors):
    path.write_bytes(b"".join(gguf_chunks(metadata, tensors)))
    return path


def text(word):
    return struct.pack("<Q", len(word)) + word


def raw(path, *, magic=b"GGUF", version=3, tensors=(), keys=(), data=b"", counts=None):
    """Write a file of given parts, whose counts may be others than theirs."""
    counts = counts or (len(tensors), len(keys))
    head = magic + struct.pack("<IQQ", version, *counts) + b"".join(keys) + b"".join(tensors)
    path.write_bytes(head + bytes(-len(head) % 32) + data)
    return path


def place(name=b"a", axes=(4,), kind=0, start=0):
    sizes = struct.pack(f"<I{len(axes)}Q", len(axes), *axes)
    return text(name) + sizes + struct.pack("<IQ", kind, start)


def key(name, kind, value):
    return text(name) + struct.pack("<I", kind) + value


# --------------------------------------------------------------------------- good files


def test_values_and_arrays_come_back(tmp_path):
    rng = np.random.default_rng(1)
    arrays = {"a": rng.standard_normal((3, 5), np.float32), "b": np.arange(7, dtype=np.float32)}
    numbers = {"i": 4096, "f": 1e-5, "n": np.arange(3, dtype=np.int32)}
    made = {name: tensor(array) for name, array in arrays.items()}
    file = GgufFile(write(tmp_path / "f.gguf", KEYS | numbers, made))
    assert list(file) == ["a", "b"]
    for name, array in arrays.items():
        assert np.array_equal(file[name], array)
        assert file.kind(name) == (array.shape, np.dtype("float32"))
        assert file.tensors[name].start % 32 == 0
    found = dict(file.metadata)
    assert np.array_equal(found.pop("n"), numbers["n"])
    assert found == KEYS | {"i": 4096, "f": 1e-5}


def test_the_library_reads_what_is_written(tmp_path):
    reader = pytest.importorskip("gguf", reason="needs pip install tisslm[gguf]").GGUFReader
    array = np.random.default_rng(1).standard_normal((4, 64), np.float32)
    kinds = ("F32", "F16", "Q8_0")
    made = {name: tensor(array, tensor_kind(name)) for name in kinds}
    found = reader(write(tmp_path / "f.gguf", KEYS, made))
    assert {name: found.fields[name].contents() for name in KEYS} == KEYS
    assert [one.tensor_type.name for one in found.tensors] == list(kinds)
    ours = GgufFile(tmp_path / "f.gguf")
    from gguf.quants import dequantize

    for one in found.tensors:
        theirs = dequantize(one.data, one.tensor_type)
        assert np.array_equal(ours[one.name].astype(np.float32), theirs)


def test_types_of_tensors_are_those_of_the_library():
    constants = pytest.importorskip("gguf", reason="needs pip install tisslm[gguf]").constants
    known = {
        kind.value: (kind.name, *sizes)
        for kind, sizes in constants.GGML_QUANT_SIZES.items()
        if kind.name not in ("Q8_1", "Q8_K")  # of sums while it computes, in no file
    }
    ours = {n: (kind.name, kind.per_block, kind.block_bytes) for n, kind in TENSORS.items()}
    assert {n: ours[n] for n in known if n in ours} == {n: known[n] for n in known if n in ours}
    assert known.keys() - ours.keys() <= {n for n in known if n > 41}


@pytest.mark.parametrize("name", [k.name for k in TENSORS.values() if k.dtype is None])
def test_blocks_become_the_numbers_of_the_library(tmp_path, name):
    gguf = pytest.importorskip("gguf", reason="needs pip install tisslm[gguf]")
    if not hasattr(gguf.GGMLQuantizationType, name):
        pytest.skip(f"this version of gguf does not know {name}")
    kind = tensor_kind(name)
    bits = np.random.default_rng(1).integers(0, 256, (3, 2 * kind.block_bytes), np.uint8)
    axes = (2 * kind.per_block, 3)
    path = raw(tmp_path / "f", tensors=[place(axes=axes, kind=kind.number)], data=bits.tobytes())
    try:
        with np.errstate(all="ignore"):
            theirs = gguf.quants.dequantize(bits, gguf.GGMLQuantizationType[name])
    except NotImplementedError:
        with pytest.raises(
            CheckpointError, match=f"'a': the package gguf cannot dequantize {name}"
        ):
            GgufFile(path)["a"]
        return
    assert np.array_equal(GgufFile(path)["a"], theirs.reshape(3, -1), equal_nan=True)


def test_without_the_package_blocks_are_refused_and_other_numbers_are_not(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    places = [place(b"q", (32,), 8), place(b"h", (4,), 1, 64)]
    file = GgufFile(raw(tmp_path / "f", tensors=places, data=bytes(72)))
    assert file["h"].dtype == np.float16
    with pytest.raises(ConfigError, match=r"need the package gguf.*run pip install tisslm\[gguf\]"):
        file["q"]


def test_a_vocabulary_of_250000_loads_at_once(tmp_path):
    words = [f"token{i}" for i in range(250_000)]
    path = write(tmp_path / "f.gguf", {"tokens": words, "merges": words}, {})
    begun = time.process_time()
    assert GgufFile(path).metadata["merges"] == words
    assert time.process_time() - begun < 2


def test_dequantizing_takes_little_more_than_the_result(tmp_path):
    pytest.importorskip("gguf", reason="needs pip install tisslm[gguf]")
    size = 2**22
    data = bytes(size // 32 * 34)
    file = GgufFile(raw(tmp_path / "f", tensors=[place(axes=(size,), kind=8)], data=data))
    file["a"]
    tracemalloc.start()
    file["a"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * 4 * size


# --------------------------------------------------------------------------- bad files

HUGE = 2**62
U32, STRING, ARRAY = 4, 8, 9
BAD = {
    "expected the first bytes b'GGUF', got b'GGML'": {"magic": b"GGML"},
    "its numbers are big-endian": {"version": 3 << 24},
    "expected version 2 or 3 of the format, got 1": {"version": 1},
    "expected at most 65536 tensors, got": {"counts": (HUGE, 0)},
    "expected 60000 tensors, got 8 bytes for them": {"counts": (60000, 0)},
    "expected at most 4096 keys of metadata, got": {"counts": (0, HUGE)},
    "expected a key of metadata of 1 to 65535 bytes, got": {
        "keys": [struct.pack("<Q", HUGE) + bytes(9)]
    },
    "expected a key of metadata in UTF-8": {"keys": [key(b"\xff", U32, bytes(4))]},
    "the key 'a' is there twice": {"keys": [key(b"a", U32, bytes(4))] * 2},
    "'a': expected a type from 0 to 12, got 13": {"keys": [key(b"a", 13, bytes(4))]},
    "'a': expected 0 or 1 for a truth, got 2": {"keys": [key(b"a", 7, b"\x02")]},
    "bytes from 45 on, got a file of 64: it is cut": {
        "keys": [key(b"a", STRING, struct.pack("<Q", HUGE))]
    },
    "expected at most 2097152 strings of 'a', got": {
        "keys": [key(b"a", ARRAY, struct.pack("<IQ", STRING, HUGE))]
    },
    "expected 2000000 strings of 'a', got": {
        "keys": [key(b"a", ARRAY, struct.pack("<IQ", STRING, 2_000_000))]
    },
    "'a': expected UTF-8": {
        "keys": [key(b"a", ARRAY, struct.pack("<IQ", STRING, 1) + text(b"\xff"))]
    },
    "expected at most 67108864 numbers of 'a', got": {
        "keys": [key(b"a", ARRAY, struct.pack("<IQ", U32, HUGE))]
    },
    "'a': expected an array of numbers or strings, got 9": {
        "keys": [key(b"a", ARRAY, struct.pack("<IQ", ARRAY, 1) + bytes(12))]
    },
    "general.alignment: expected a power of two up to 65536, got '3'": {
        "keys": [key(b"general.alignment", U32, struct.pack("<I", 3))]
    },
    "expected the name of a tensor of 1 to 64 bytes, got 65": {"tensors": [place(b"a" * 65)]},
    "the tensor 'a' is there twice": {"tensors": [place()] * 2},
    "'a': expected 1 to 4 axes, got 5": {"tensors": [place(axes=(1,) * 5)]},
    "'a': a type of tensor 9 is not known here": {"tensors": [place(kind=9)]},
    "is empty or too large": {"tensors": [place(axes=(2**39, 2**39))]},
    "is empty or too large ?": {"tensors": [place(axes=(0, 3))]},
    "'a': expected rows of a multiple of 32 numbers, as Q8_0 has blocks, got 4": {
        "tensors": [place(kind=8)]
    },
    "'a': expected an offset that is a multiple of 32, got 8": {"tensors": [place(start=8)]},
    "'a': expected 16 bytes from .* on, got a file of": {
        "tensors": [place(start=64)], "data": bytes(79)
    },
    "the bytes of 'a' and 'b' overlap": {
        "tensors": [place(axes=(9,)), place(b"b", start=32)], "data": bytes(64)
    },
}  # fmt: skip


@pytest.mark.parametrize("reason", BAD)
def test_a_header_that_is_wrong_is_refused_in_a_sentence(tmp_path, reason):
    path = raw(tmp_path / "f", **BAD[reason])
    tracemalloc.start()
    begun = time.process_time()
    with pytest.raises(CheckpointError, match=rf"f: cannot be used as a GGUF file \(.*{reason}"):
        GgufFile(path)
    assert time.process_time() - begun < 2
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_a_file_cut_anywhere_is_refused(tmp_path):
    whole = write(tmp_path / "f", KEYS, {"a": tensor(np.ones((2, 3), np.float32))}).read_bytes()
    data = len(whole) - 32 + 24  # padding at the end may be missing
    for length in range(data):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="cannot be used as a GGUF file"):
            GgufFile(tmp_path / "cut")
    (tmp_path / "cut").write_bytes(whole[:data])
    assert GgufFile(tmp_path / "cut")["a"].sum() == 6


def test_a_file_that_is_cut_while_it_is_open_is_an_error(tmp_path):
    path = write(tmp_path / "f", {}, {"a": tensor(np.ones(4096, np.float32))})
    file = GgufFile(path)
    with path.open("r+b") as whole:
        whole.truncate(200)
    with pytest.raises(CheckpointError, match="the file was cut while it was read"):
        file["a"]


def test_a_link_is_followed_and_a_folder_is_none(tmp_path):
    path = write(tmp_path / "f", KEYS, {})
    (tmp_path / "link").symlink_to(path)
    assert GgufFile(tmp_path / "link").metadata == KEYS
    with pytest.raises(CheckpointError, match="expected a regular file, got a directory"):
        GgufFile(tmp_path)

"""Files that the library of the format reads, and files of it that are read here."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tisslm.errors import CheckpointError
from tisslm.system.tensor_files import TensorFile, tensor_chunks

TYPES = ["bool", "int8", "uint16", "int64", "float16", "float32", "float64"]
ARRAYS = st.sampled_from(TYPES).flatmap(
    lambda dtype: arrays_of.arrays(
        dtype, arrays_of.array_shapes(min_dims=0, min_side=0, max_side=4)
    )
)
FILES = st.dictionaries(st.text("abc./é", min_size=1, max_size=8), ARRAYS, max_size=5)


def write_arrays(path, arrays):
    chunks = tensor_chunks(arrays, path.name)
    with path.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)


def same(found, expected):
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(FILES)
def test_both_directions_agree_with_the_library(tmp_path_factory, arrays):
    folder = tmp_path_factory.mktemp("files")
    write_arrays(folder / "ours", arrays)
    same(load_file(folder / "ours"), arrays)
    same(TensorFile(folder / "ours"), arrays)
    save_file(arrays, folder / "theirs", metadata={"format": "np"})
    same(TensorFile(folder / "theirs"), arrays)
    assert len(TensorFile(folder / "theirs")) == len(arrays)


def test_arrays_that_are_not_contiguous_are_written_as_they_look(tmp_path):
    arrays = {"t": np.arange(12.0).reshape(3, 4).T}
    write_arrays(tmp_path / "file", arrays)
    same(load_file(tmp_path / "file"), arrays)


def test_writing_copies_nothing_and_reading_holds_one_array(tmp_path):
    arrays = {str(i): np.full(2**18, i, np.float32) for i in range(4)}
    own = {name: np.zeros(2**18, np.float32) for name in arrays}
    write_arrays(tmp_path / "warm", {"a": np.zeros(1)})
    tracemalloc.start()
    try:
        write_arrays(tmp_path / "file", arrays)
        assert tracemalloc.get_traced_memory()[1] < 2**18
        file = TensorFile(tmp_path / "file")
        for name in file:
            own[name][...] = file[name]
        assert tracemalloc.get_traced_memory()[1] < 2**20 + 2**18
    finally:
        tracemalloc.stop()
    same(own, arrays)


def test_a_type_that_files_do_not_have_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="file: z has type complex128, which safetensors"):
        write_arrays(tmp_path / "file", {"z": np.zeros(2, complex)})


@pytest.mark.parametrize("cut", [0, 5, 40, -1])
def test_a_file_that_was_cut_is_refused_at_once(tmp_path, cut):
    write_arrays(tmp_path / "whole", {"a": np.zeros(100)})
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:cut])
    with pytest.raises(CheckpointError, match="cut: the checkpoint is damaged or incomplete"):
        TensorFile(tmp_path / "cut")


def test_pieces_are_views_of_eight_mebibytes_at_most():
    array = np.zeros(3 * 2**20, np.float64)
    header, *pieces = tensor_chunks({"a": array, "empty": np.zeros((0, 3))})
    assert [len(piece) for piece in pieces] == [2**23, 2**23, 2**23]
    assert len(header) % 8 == 0
    array[-1] = 1.0
    assert bytes(pieces[-1][-8:]) == array[-1:].tobytes()


def test_the_metadata_are_those_that_other_libraries_ask_for(tmp_path):
    write_arrays(tmp_path / "file", {"a": np.zeros(1)})
    with safe_open(tmp_path / "file", framework="np") as file:
        assert file.metadata() == {"format": "pt"}
    assert TensorFile(tmp_path / "file").metadata == {"format": "pt"}


def test_bfloat16_is_told_from_whole_numbers(tmp_path):
    bits = np.arange(70_000, dtype=np.uint16).reshape(1000, 70)
    arrays = {"brain": bits, "whole": bits[:3], "single": np.ones(3, np.float32)}
    chunks = tensor_chunks(arrays, bfloat16={"brain", "single"})
    (tmp_path / "file").write_bytes(b"".join(map(bytes, chunks)))
    with safe_open(tmp_path / "file", "np") as theirs:
        assert theirs.get_slice("brain").get_dtype() == "BF16"
        assert theirs.get_slice("whole").get_dtype() == "U16"
        assert theirs.get_slice("single").get_dtype() == "F32"
    found = TensorFile(tmp_path / "file")
    assert found.bfloat16 == {"brain"}
    same(found, arrays)
    chunks = tensor_chunks(arrays, bfloat16=arrays)
    (tmp_path / "file").write_bytes(b"".join(map(bytes, chunks)))
    assert TensorFile(tmp_path / "file").bfloat16 == {"brain", "whole"}


@pytest.mark.parametrize("shape", [(), (0,), (5,), (3_000_000,), (7, 500_000), (2, 3, 100_000)])
def test_pieces_are_the_array(tmp_path, shape):
    array = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    write_arrays(tmp_path / "file", {"before": np.zeros(3), "a": array})
    found, sizes = np.full_like(array, np.nan), []
    for where, values in TensorFile(tmp_path / "file").pieces("a"):
        assert np.isnan(found[where]).all()
        found[where] = values
        sizes.append(values.nbytes)
    assert found.tobytes() == array.tobytes()
    assert max(sizes) <= 2**21
    assert len(sizes) == 1 or sum(sizes) == array.nbytes > 2**21


def test_a_row_that_is_larger_than_a_piece_is_one(tmp_path):
    array = np.arange(2 * 2**22, dtype=np.float32).reshape(2, -1)
    write_arrays(tmp_path / "file", {"a": array})
    pieces = list(TensorFile(tmp_path / "file").pieces("a"))
    assert [(where, len(values)) for where, values in pieces] == [
        (slice(0, 1), 1),
        (slice(1, 2), 1),
    ]


def test_to_ask_for_a_name_reads_nothing(tmp_path):
    write_arrays(tmp_path / "file", {"a": np.zeros(2**20)})
    found = TensorFile(tmp_path / "file")
    tracemalloc.start()
    try:
        assert "a" in found
        assert not any(name in found for name in ("b", "", 3, None, []))
        assert tracemalloc.get_traced_memory()[1] < 2**16
    finally:
        tracemalloc.stop()

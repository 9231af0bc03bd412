"""Arrays in several files: read as one, opened when they are needed, and refused with a reason."""

from __future__ import annotations

import json
import time
import tracemalloc

import numpy as np
import pytest
from model_folders import write_shards, write_weights

from tisslm.errors import CheckpointError
from tisslm.system.sharded_tensors import ShardedTensors

INDEX = "model.safetensors.index.json"
ARRAYS = {f"layers.{i}": np.full((i + 1, 2), i, np.float32) for i in range(7)} | {
    "half": np.arange(4, dtype=np.uint16)  # bfloat16
}


def write_index(folder, weight_map, **more):
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map, **more}))


def refusal(folder, use=list):
    """Return the reason in the message of what is refused."""
    with pytest.raises(CheckpointError) as caught:
        use(ShardedTensors(folder / INDEX))
    found = str(caught.value).replace(f"{folder}/", "")
    name, _, rest = found.partition(": the checkpoint is damaged or incomplete (")
    assert rest.endswith("); use an earlier one"), found
    return f"{name}: {rest.removesuffix('); use an earlier one')}"


def every_kind(arrays):
    return [arrays.kind(name) for name in arrays]


def test_several_files_are_one_mapping(tmp_path):
    write_shards(tmp_path, ARRAYS)
    found = ShardedTensors(tmp_path / INDEX)
    assert set(found) == set(ARRAYS)
    assert len(found) == len(ARRAYS)
    for name, array in ARRAYS.items():
        assert found.kind(name) == (array.shape, array.dtype)
        np.testing.assert_array_equal(found[name], array)
    assert found.bfloat16 == {"half"}
    assert not found.is_hollow()


def test_a_file_is_opened_when_it_is_needed(tmp_path):
    write_shards(tmp_path, ARRAYS)
    found = ShardedTensors(tmp_path / INDEX)
    (tmp_path / "model-00003-of-00003.safetensors").unlink()
    first = json.loads((tmp_path / INDEX).read_text())["weight_map"]
    there = [name for name in ARRAYS if "00003-of" not in first[name]]
    gone = next(name for name in ARRAYS if "00003-of" in first[name])
    assert all(found[name].size for name in there)
    with pytest.raises(CheckpointError, match=r"00003-of-00003.*No such file"):
        found.kind(gone)


ELSEWHERE = [
    "../a.safetensors", "/etc/a.safetensors", "sub/a.safetensors", "..", ".", "", "a.bin",
    "a\0.safetensors", "..\\a.safetensors", ".safetensors", "..safetensors", "a" * 10**6,
    "b" * 10**6 + ".safetensors", 3, None, ["a"], {},
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(ELSEWHERE)))
def test_a_file_that_is_not_beside_the_index_is_refused(tmp_path, number):
    write_index(tmp_path, {"a": ELSEWHERE[number]})
    start = time.process_time()
    found = refusal(tmp_path)
    assert time.process_time() - start < 1
    assert found.startswith(
        f"{INDEX}: weight_map: 'a': expected the name of a safetensors file beside it, got "
    )


def test_index_and_files_have_the_same_arrays(tmp_path):
    write_weights(tmp_path / "a.safetensors", {"x": np.zeros(2), "y": np.ones(2)})
    write_index(tmp_path, {"x": "a.safetensors"})
    assert refusal(tmp_path, every_kind) == (
        f"a.safetensors: expected the arrays that {INDEX} has there, got 'y', which the index does "
        "not have"
    )
    write_index(tmp_path, dict.fromkeys("xyz", "a.safetensors"))
    assert refusal(tmp_path, every_kind) == (
        f"a.safetensors: expected the arrays that {INDEX} has there, got 'z', which the file lacks"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{}", "expected weight_map, a table of names and files, got 'None'"),
        (b'{"weight_map":{}}', "expected weight_map, a table of names and files, got '{}'"),
        (b'{"weight_map":["a"]}', "expected weight_map, a table of names and files, got \"['a']\""),
        (b"[]", "expected a JSON object, got a list"),
        (b'{"weight_map":{"a":"b","a":"c"}}', "the key 'a' is there twice"),
        (b'{"a":' + b"[" * 9, "expected JSON of at most 3 levels, got more"),
        (b'{"a":' + b" " * 2**24, f"expected at most {2**24} bytes, got {2**24 + 5}"),
    ],
)
def test_an_index_that_is_none_is_refused(tmp_path, content, reason):
    (tmp_path / INDEX).write_bytes(content)
    assert refusal(tmp_path) == f"{INDEX}: {reason}"


@pytest.mark.parametrize("pattern", ['"%07d":"a.safetensors"', '"%d":"a"'])
def test_a_million_entries_take_no_time_and_no_memory(tmp_path, pattern):
    entries = ",".join(pattern % i for i in range(10**6))
    (tmp_path / INDEX).write_text(f'{{"weight_map":{{{entries}}}}}')
    tracemalloc.start()
    try:
        start = time.process_time()
        reason = refusal(tmp_path)
        assert time.process_time() - start < 2
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()
    assert "expected at most" in reason or reason.endswith(f"at most {2**16} values, got more")


def test_as_many_entries_as_are_possible_are_read_in_time(tmp_path):
    count = 2**16 - 2
    write_index(tmp_path, {f"layer.{i}.weight": f"{i % 999}.safetensors" for i in range(count)})
    start = time.process_time()
    assert refusal(tmp_path, every_kind) == "0.safetensors: No such file or directory"
    assert time.process_time() - start < 2

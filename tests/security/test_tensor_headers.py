"""Headers of safetensors files that are damaged or made to harm, and the library as oracle."""

from __future__ import annotations

import copy
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.numpy import load

from tisslm.errors import CheckpointError
from tisslm.system.tensor_files import TensorFile, tensor_chunks

LIMIT = 16 * 2**20


def entry(dtype="F32", shape=(2,), offsets=(0, 8), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


def content(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def refused(tmp_path, data: bytes) -> str:
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        TensorFile(path)
    found = re.fullmatch(
        re.escape(f"{path}: the checkpoint is damaged or incomplete (") + r"(.*)\); use an earlier "
        "one",
        str(caught.value),
    )
    assert found
    return found[1]


ONE = {"a": entry()}
HOSTILE = {
    "empty": (b"", "expected a header's length of 8 bytes, got 0 bytes"),
    "seven": (b"\0" * 7, "expected a header's length of 8 bytes, got 7 bytes"),
    "no header": (content(b""), "expected a header that begins with a brace"),
    "huge length": (
        content(ONE, bytes(8), 2**64 - 1),
        f"expected a header of at most {LIMIT} bytes, got {2**64 - 1}",
    ),
    "length beyond the file": (
        content(b"{}", b"", 1000),
        "expected a header of 1000 bytes, got 2",
    ),
    "a list": (content(b"[]"), "expected a header that begins with a brace"),
    "leading space": (content(b" {}"), "expected a header that begins with a brace"),
    "no JSON": (
        content(b"{a}"),
        "expected JSON: Expecting property name enclosed in double quotes: line 1 column 2 "
        "(char 1)",
    ),
    "two objects": (
        content(b"{}{}"),
        "expected JSON: Extra data: line 1 column 3 (char 2)",
    ),
    "twice": (
        content(b'{"a":%b,"a":%b}' % ((json.dumps(entry()).encode(),) * 2), bytes(8)),
        "the key 'a' is there twice",
    ),
    "a shape twice": (
        content(b'{"a":{"dtype":"F32","shape":[1],"shape":[2],"data_offsets":[0,8]}}', bytes(8)),
        "the key 'shape' is there twice",
    ),
    "NaN": (
        content(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}', bytes(8)),
        "expected numbers as JSON has them, got NaN",
    ),
    "no object": (
        content({"a": 3}),
        "'a': expected dtype, shape and data_offsets alone",
    ),
    "another key": (
        content({"a": entry(code="x")}, bytes(8)),
        "'a': expected dtype, shape and data_offsets alone",
    ),
    "a key less": (
        content({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)),
        "'a': expected dtype, shape and data_offsets alone",
    ),
    "unknown type": (
        content({"a": entry("O")}, bytes(8)),
        "'a': expected a type of BOOL, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64, "
        "BF16, got 'O'",
    ),
    "a type of eight bits that no weights are read from": (
        content({"a": entry("F8_E4M3", (8,))}, bytes(8)),
        "'a': expected a type of BOOL, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64, "
        "BF16, got 'F8_E4M3'",
    ),
    "a list as type": (
        content({"a": entry(["F32"])}, bytes(8)),
        "'a': expected a type of BOOL, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64, "
        "BF16, got \"['F32']\"",
    ),
    "negative shape": (
        content({"a": entry(shape=(-1, -2))}, bytes(8)),
        "'a': expected a shape of up to 32 counts, got '[-1, -2]'",
    ),
    "fraction as shape": (
        content({"a": entry(shape=(2.0,))}, bytes(8)),
        "'a': expected a shape of up to 32 counts, got '[2.0]'",
    ),
    "truth as shape": (
        content({"a": entry(shape=(True, 2))}, bytes(8)),
        "'a': expected a shape of up to 32 counts, got '[True, 2]'",
    ),
    "a number as shape": (
        content({"a": {**entry(), "shape": 2}}, bytes(8)),
        "'a': expected a shape of up to 32 counts, got '2'",
    ),
    "33 axes": (
        content({"a": entry(shape=(1,) * 32 + (2,))}, bytes(8)),
        f"'a': expected a shape of up to 32 counts, got '{str([1] * 33)[:60]}...'",
    ),
    "shape product overflows to the right size": (
        content({"a": entry(shape=(2**62, 2**62))}, bytes(8)),
        f"'a': the shape '[{2**62}, {2**62}]' is too large",
    ),
    "an empty array that NumPy cannot make": (
        content({"a": entry(shape=(0, 2**62, 2**62), offsets=(0, 0))}),
        f"'a': the shape '[0, {2**62}, {2**62}]' is too large",
    ),
    "axis of 2^63": (
        content({"a": entry(shape=(0, 2**63), offsets=(0, 0))}),
        f"'a': expected a shape of up to 32 counts, got '[0, {2**63}]'",
    ),
    "negative offset": (
        content({"a": entry(offsets=(-8, 0))}, bytes(8)),
        "'a': expected two offsets, got '[-8, 0]'",
    ),
    "three offsets": (
        content({"a": entry(offsets=(0, 8, 16))}, bytes(8)),
        "'a': expected two offsets, got '[0, 8, 16]'",
    ),
    "offset of 2^64": (
        content({"a": entry(offsets=(2**64, 2**64 + 8))}, bytes(8)),
        f"'a': expected two offsets, got '[{2**64}, {2**64 + 8}]'",
    ),
    "offsets backwards": (
        content({"a": entry(offsets=(8, 0))}, bytes(8)),
        "'a': expected 8 bytes for its shape and type, got offsets 8 to 0",
    ),
    "another size": (
        content({"a": entry(shape=(3,))}, bytes(8)),
        "'a': expected 12 bytes for its shape and type, got offsets 0 to 8",
    ),
    "overlapping": (
        content({"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12)),
        "'b': expected data from byte 8 on, where the array before ends, got 4",
    ),
    "the same bytes twice": (
        content({"a": entry(), "b": entry()}, bytes(8)),
        "'b': expected data from byte 8 on, where the array before ends, got 0",
    ),
    "a hole": (
        content({"a": entry(), "b": entry(offsets=(12, 20))}, bytes(20)),
        "'b': expected data from byte 8 on, where the array before ends, got 12",
    ),
    "a hole at the start": (
        content({"a": entry(offsets=(8, 16))}, bytes(16)),
        "'a': expected data from byte 0 on, where the array before ends, got 8",
    ),
    "data cut": (content(ONE, bytes(7)), "expected 8 bytes of arrays, got 7"),
    "data after the end": (content(ONE, bytes(9)), "expected 8 bytes of arrays, got 9"),
    "data of no array": (content(b"{}", b"x"), "expected 0 bytes of arrays, got 1"),
    "metadata of numbers": (
        content({"__metadata__": {"format": 1}}),
        "expected __metadata__ of strings, got \"{'format': 1}\"",
    ),
    "metadata that are none": (
        content({"__metadata__": None}),
        "expected __metadata__ of strings, got 'None'",
    ),
    "deep": (
        content(b'{"a":' + b"[" * 500_000),
        "expected JSON of at most 3 levels, got more",
    ),
    "levels of objects": (
        content(b'{"a":{"b":{"c":{"d":{}}}}}'),
        "expected JSON of at most 3 levels, got more",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_is_refused_with_a_reason(tmp_path, name):
    data, reason = HOSTILE[name]
    assert refused(tmp_path, data) == reason


def many(count: int) -> bytes:
    one = b'"%07d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    return b"{" + b",".join(one % i for i in range(count)) + b"}"


LARGE = {
    "600k arrays": (lambda: many(600_000), rf"expected a header of at most {LIMIT} bytes, got \d+"),
    "250k arrays": (lambda: many(250_000), "expected JSON of at most 524288 values, got more"),
    "33k arrays": (lambda: many(33_000), "expected at most 32768 arrays, got 33000"),
    "twice": (
        lambda: many(34_000).replace(b"0000009", b"0000008"),
        "the key '0000008' is there twice",
    ),
    "long list": (
        lambda: b'{"a":[' + b"0," * (8 * 2**20 - 10) + b"0]}",
        "expected JSON of at most 524288 values, got more",
    ),
    "list": (
        lambda: b'{"a":[' + b"0," * 500_000 + b"0]}",
        "'a': expected dtype, shape and data_offsets alone",
    ),
    "rare character": (
        lambda: '{"😀'.encode() + b"a" * (LIMIT - 20) + b'":0}',
        "expected ASCII in a header of more than 1048576 bytes",
    ),
    "digits": (
        lambda: b'{"a":' + b"9" * 4 * 10**6 + b"}",
        "expected an integer that float64 has, got one of 4000000 digits",
    ),
    "escapes": (
        lambda: b'{"' + b'\\"' * (8 * 2**20 - 8),
        "expected JSON: Unterminated string.*",
    ),
}


def test_large_headers_take_bounded_time_and_memory(tmp_path, outcomes):
    paths = {name: tmp_path / name for name in LARGE}
    for name, (text, _) in LARGE.items():
        paths[name].write_bytes(content(text()))
    for name, found in outcomes("arrays", paths).items():
        start = f"{paths[name]}: the checkpoint is damaged or incomplete ("
        assert re.fullmatch(
            re.escape(start) + LARGE[name][1] + r"\); use an earlier one", found.message
        )
        assert found.seconds < 2, name
        assert found.memory < 2 * paths[name].stat().st_size + 2**25, name


def test_truth_values_are_0_and_1(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content({"a": entry("BOOL", (2,), (0, 2))}, b"\x01\x02"))
    with pytest.raises(CheckpointError, match=r"'a': expected truth values of 0 and 1, got 2\); u"):
        TensorFile(path)["a"]


def test_a_file_that_is_cut_later_is_an_error_and_no_signal(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"".join(tensor_chunks({"a": np.zeros(2**16), "b": np.zeros(2**16)})))
    file = TensorFile(path)
    whole = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    assert file["a"].shape == (2**16,)
    with pytest.raises(
        CheckpointError, match=rf"expected {whole} bytes, got {whole - 1}: the file"
    ):
        file["b"]


def test_kinds_are_told_without_reading(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"".join(tensor_chunks({"a": np.zeros((2, 3), np.float32)})))
    file = TensorFile(path)
    path.write_bytes(b"")
    assert file.kind("a") == ((2, 3), np.dtype("float32"))


def test_what_would_be_refused_is_not_written():
    with pytest.raises(CheckpointError) as caught:
        tensor_chunks({"a" * LIMIT: np.zeros(1)}, "model.safetensors")
    assert re.fullmatch(
        r"model.safetensors: expected at most 32768 arrays, with names of 16777216 bytes in all "
        r"and none called __metadata__, got 1 arrays and a header of 167773\d\d bytes; keep fewer "
        "arrays, under shorter names",
        str(caught.value),
    )
    with pytest.raises(CheckpointError, match="none called __metadata__"):
        tensor_chunks({"__metadata__": np.zeros(1)})


# --------------------------------------------------------------------------- the oracle


def theirs(data: bytes):
    try:
        return load(data)
    except (SafetensorError, KeyError):
        return None


def ours(path, data: bytes):
    path.write_bytes(data)
    try:
        return dict(TensorFile(path))
    except CheckpointError:
        return None


def same(a, b) -> bool:
    return set(a) == set(b) and all(
        (a[n].dtype, a[n].shape, a[n].tobytes()) == (b[n].dtype, b[n].shape, b[n].tobytes())
        for n in a
    )


SHAPES = st.lists(st.integers(0, 3), max_size=3)
SMALL = st.integers(-1, 20) | st.sampled_from([2**31, 2**32, 2**62, 2**63, 2**64])


@st.composite
def headers(draw):
    """A right header and its data; then up to two changes of its fields."""
    sizes = {"U8": 1, "F16": 2, "I32": 4, "F64": 8}
    header, end = {}, 0
    for name in draw(st.lists(st.text("ab_", max_size=3), unique=True, max_size=4)):
        dtype, shape = draw(st.sampled_from(sorted(sizes))), draw(SHAPES)
        start, end = end, end + int(np.prod(shape, dtype=int)) * sizes[dtype]
        header[name] = entry(dtype, shape, (start, end))
    names = draw(st.permutations(list(header)))  # the order of names is not that of the data
    header = {name: header[name] for name in names}
    for _ in range(draw(st.integers(0, 2)) if header else 0):
        one = header[draw(st.sampled_from(names))]
        what = draw(st.sampled_from(["dtype", "shape", "start", "end", "other", "data"]))
        if what == "dtype":
            one["dtype"] = draw(st.sampled_from([*sizes, "F32", "f32", ""]))
        elif what == "shape":
            one["shape"] = draw(SHAPES | st.lists(SMALL, max_size=2))
        elif what == "other":
            one["data_offsets"] = copy.copy(header[draw(st.sampled_from(names))]["data_offsets"])
        elif what == "data":
            end = max(0, end + draw(st.integers(-2, 2)))
        else:
            one["data_offsets"][what == "end"] = draw(SMALL)
    return content(header, bytes(i % 256 for i in range(end)))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(headers())
def test_the_library_and_we_agree_on_changed_fields(tmp_path_factory, data):
    mine, other = ours(tmp_path_factory.getbasetemp() / "fields", data), theirs(data)
    assert (mine is None) == (other is None)
    assert mine is None or same(mine, other)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(headers(), st.data())
def test_what_we_read_of_a_changed_byte_is_what_the_library_reads(tmp_path_factory, data, more):
    changed = bytearray(data)
    for _ in range(more.draw(st.integers(1, 2))):
        at = more.draw(st.integers(0, len(data) - 1))
        changed[at] = more.draw(st.integers(0, 255) | st.sampled_from(b'"{}[],:0123456789 '))
    mine = ours(tmp_path_factory.getbasetemp() / "bytes", bytes(changed))
    assert mine is None or same(mine, theirs(bytes(changed)))

"""Only regular files are opened, and JSON is read strictly and within limits."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisslm.errors import CheckpointError, DataError
from tisslm.system.safe_files import CHECKPOINT, Refusal, RegularFile, show
from tisslm.system.strict_json import parse_json, read_json

DAMAGED = "file: the checkpoint is damaged or incomplete ({}); use an earlier one"


def refused(data: bytes, **limits: int) -> str:
    with pytest.raises(CheckpointError) as caught:
        parse_json(data, "file", **limits)
    text = str(caught.value)
    start, end = DAMAGED.split("{}")
    assert text.startswith(start)
    assert text.endswith(end)
    return text[len(start) : -len(end)]


# --------------------------------------------------------------------------- files


def made(path, kind):
    if kind == "a directory":
        path.mkdir()
    elif kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a symbolic link":
        path.with_name("target").write_text("{}")
        path.symlink_to(path.with_name("target"))
    elif kind == "a socket or a device":
        with socket.socket(socket.AF_UNIX) as server:
            folder = os.open(path.parent, os.O_RDONLY)  # a socket's path may have 107 bytes
            server.bind(f"/proc/self/fd/{folder}/{path.name}")
            os.close(folder)
    return path


@pytest.mark.parametrize(
    "kind", ["a directory", "a FIFO", "a symbolic link", "a socket or a device"]
)
def test_what_is_no_regular_file_is_not_waited_for(tmp_path, kind):
    path = made(tmp_path / "file", kind)
    with pytest.raises(CheckpointError) as caught:
        RegularFile(path)
    reason = f"expected a regular file, got {kind}"
    assert str(caught.value) == f"{tmp_path}/{DAMAGED.format(reason)}"


def test_a_device_is_not_read():
    with pytest.raises(CheckpointError, match=r"/dev/zero: .*expected a regular file, got a devic"):
        RegularFile("/dev/zero")


def test_a_link_may_be_followed_where_the_caller_says_so(tmp_path):
    path = made(tmp_path / "file", "a symbolic link")
    with RegularFile(path, follow=True) as file:
        assert file.read(10) == b"{}"


def test_a_missing_file_and_a_path_that_is_none(tmp_path):
    with pytest.raises(CheckpointError, match=r"none: .*\(No such file or directory\); use an"):
        RegularFile(tmp_path / "none")
    with pytest.raises(CheckpointError, match=r"expected a path, got one with a zero byte"):
        RegularFile(f"{tmp_path}/a\0b")


def test_the_caller_chooses_error_and_advice(tmp_path):
    refusal = Refusal(DataError, "this shard cannot be used", "write it again")
    with pytest.raises(DataError) as caught:
        RegularFile(tmp_path / "none", refusal)
    assert str(caught.value) == (
        f"{tmp_path}/none: this shard cannot be used (No such file or directory); write it again"
    )


def test_reading_is_bounded_by_the_file_as_it_was_opened(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with RegularFile(path) as file:
        assert file.read(10) == b"0123456789"
        with pytest.raises(CheckpointError, match="expected at most 9 bytes, got 10"):
            file.read(9)
        os.truncate(path, 4)
        with pytest.raises(CheckpointError) as caught:
            file.read(10)
    assert str(caught.value) == f"{tmp_path}/" + DAMAGED.format(
        "expected 10 bytes, got 4: the file was cut while it was read"
    )


def test_another_file_under_the_same_name_changes_nothing(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"first")
    with RegularFile(path) as file:
        path.unlink()
        path.write_bytes(b"other")
        assert file.read(5) == b"first"


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 1])
def test_the_hash_is_of_all_bytes(tmp_path, size):
    import hashlib

    data = bytes(i * 7 % 251 for i in range(997)) * (size // 997 + 1)
    (tmp_path / "file").write_bytes(data[:size])
    with RegularFile(tmp_path / "file") as file:
        assert file.sha256() == hashlib.sha256(data[:size]).hexdigest()


def test_files_are_closed_when_nothing_refers_to_them(tmp_path):
    (tmp_path / "file").write_bytes(b"{}")
    for _ in range(20):
        RegularFile(tmp_path / "file")
        with pytest.raises(CheckpointError):
            RegularFile(tmp_path)
    found = (Path(f"/proc/self/fd/{handle}") for handle in os.listdir("/proc/self/fd"))
    is_open = [os.readlink(path) for path in found if path.is_symlink()]  # not that of the listing
    assert not [name for name in is_open if name.startswith(str(tmp_path.resolve()))]


# --------------------------------------------------------------------------- JSON

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # no surrogates, which UTF-8 does not have
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('ab[{"\\é😀'), inner),
    max_leaves=30,
)


def test_errors_of_a_disk_at_opening_and_closing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    (path := tmp_path / "a.json").write_text("{}")
    close, fstat = os.close, os.fstat
    monkeypatch.setattr(os, "close", lambda handle: close(handle) or fail())
    assert read_json(path, 10) == {}
    monkeypatch.setattr(os, "close", close)
    monkeypatch.setattr(os, "fstat", fail)
    with pytest.raises(CheckpointError, match=r"a.json: the checkpoint is .*Input/output error"):
        read_json(path, 10)
    monkeypatch.setattr(os, "fstat", fstat)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), VALUES), st.booleans())
def test_what_json_writes_is_read(value, plain):
    assert parse_json(json.dumps(value, ensure_ascii=plain).encode(), "file") == value


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "expected JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"[]", "expected a JSON object, got a list"),
        (b"3", "expected a JSON object, got a number"),
        (b'"x"', "expected a JSON object, got a string"),
        (b"null", "expected a JSON object, got null"),
        (b"true", "expected a JSON object, got true or false"),
        (b'{"a": 1, "b": 2, "a": 3}', "the key 'a' is there twice"),
        (b'{"x": {"\\u001b[2J": 1, "\\u001b[2J": 2}}', r"the key '\x1b[2J' is there twice"),
        (b'{"a": NaN}', "expected numbers as JSON has them, got NaN"),
        (b'{"a": -Infinity}', "expected numbers as JSON has them, got -Infinity"),
        (b'{"a": 1e999}', "expected a finite number, got '1e999'"),
        (b'{"a": "\\ud800"}', "expected text, got half of a surrogate pair"),
        (b'{"a": "\xff"}', "expected UTF-8, got byte 0xff at offset 7"),
        (b"\xff\xfe{\x00}\x00", "expected UTF-8, got byte 0xff at offset 0"),
        (b"{} {}", "expected JSON: Extra data: line 1 column 4 (char 3)"),
        (b"{'a': 1}", "expected JSON: Expecting property name enclosed in double quotes: line 1 "
         "column 2 (char 1)"),
    ],
)  # fmt: skip
def test_what_is_no_strict_json_object_is_refused(data, reason):
    assert refused(data) == reason


def test_nan_and_infinities_are_read_where_they_may_be():
    found = parse_json(b'{"a": [NaN, Infinity, -Infinity, 1e999]}', "file", allow_nan=True)
    assert str(found["a"]) == "[nan, inf, -inf, inf]"


def test_a_number_of_too_many_digits_is_refused():
    words = "expected an integer that float64 has, got one of {} digits"
    for digits in (309, 310, 4300, 4301, 5000):
        for sign in (b"", b"-"):
            data = b'{"a": ["9", ' + sign + b"9" * digits + b"]}"
            assert refused(data) == words.format(digits)
            assert refused(data, allow_nan=True) == words.format(digits)


def test_the_largest_integers_and_long_fractions_and_texts_are_read():
    largest = int(sys.float_info.max)
    text = json.dumps({"a": [largest, -largest, 2**64], "b": "9" * 5000})
    assert parse_json(text.encode(), "file") == json.loads(text)
    assert parse_json(b'{"a": 0.' + b"9" * 5000 + b"}", "file") == {"a": 1.0}


def test_values_and_levels_are_bounded():
    assert parse_json(b'{"a": [1, 2, 3]}', "file", max_values=4)
    assert refused(b'{"a": [1, 2, 3]}', max_values=3) == (
        "expected JSON of at most 3 values, got more"
    )
    assert parse_json(b'{"a": [[[]], [[]], [[]]]}', "file", max_depth=4)
    assert refused(b'{"a": [[[]], [[[]]]]}', max_depth=4) == (
        "expected JSON of at most 4 levels, got more"
    )


def test_brackets_in_strings_are_no_levels():
    value = {"a" * i: "[{" * 50 + '"\\' for i in range(50)}
    assert parse_json(json.dumps(value).encode(), "file", max_depth=2) == value


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 10**6,
        b'{"a":' * 10**6,
        b'{"a":' + b"[" * 10**6 + b"]" * 10**6 + b"}",
        b'{"a' + b'\\"' * 10**6,  # what no quote ends, with something like a quote everywhere
        b'{"a' + b"[{" * 10**5 + b'\\"' * 10**6,
        b"[" * 100 + b'"\\' * 10**6,
        b"{" * 100 + b'"a",' * 10**5,
    ],
    ids=["lists", "objects", "closed", "no-end", "brackets", "escapes", "strings"],
)
def test_deep_and_endless_text_is_refused_at_once(data):
    began = time.process_time()
    assert re.search("levels|values|expected JSON: ", refused(data))
    assert time.process_time() - began < 2


def test_depth_is_bounded_however_deep_the_interpreter_may_go():
    code = (
        "import sys; sys.setrecursionlimit(10**9)\n"
        "from tisslm.system.strict_json import parse_json\n"
        "from tisslm.errors import CheckpointError\n"
        "for text in (b'[' * 10**6, b'{\"a\":' * 10**6):\n"
        "    try: parse_json(text, 'file', max_values=10**7)\n"
        "    except CheckpointError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (
        done.stdout.splitlines()
        == [DAMAGED.format("expected JSON of at most 64 levels, got more")] * 2
    )


def test_a_file_is_read_up_to_its_limit(tmp_path):
    (tmp_path / "file").write_bytes(b'{"a": 1}')
    assert read_json(tmp_path / "file", 8) == {"a": 1}
    with pytest.raises(CheckpointError, match="expected at most 7 bytes, got 8"):
        read_json(tmp_path / "file", 7)


def test_a_sparse_file_of_a_terabyte_takes_no_memory(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        file.truncate(2**40)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match="expected at most 1000 bytes, got 1099511627776"):
        read_json(tmp_path / "file", 1000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**14


def test_names_are_shown_short_and_without_characters_that_act():
    assert show("\x1b[31mred\n") == r"'\x1b[31mred\n'"
    assert show("x" * 100) == f"'{'x' * 60}...'"
    assert show(["é"]) == "\"['\\xe9']\""
    assert CHECKPOINT("a", "b").args == ("a: the checkpoint is damaged or incomplete (b); use an "
                                         "earlier one",)  # fmt: skip

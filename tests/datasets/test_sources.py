"""Texts, folders and JSON lines as documents, and what is said of those that cannot be read."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tisslm.datasets.sources import (
    BadRecords,
    ReadOptions,
    find_format,
    read_documents,
    read_text_blocks,
    read_tokens,
    record_document,
    split_files,
    streams,
    text,
)
from tisslm.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pieces(path: str | Path, **options: str) -> list[tuple[tuple[str, bool], ...]]:
    return [d.pieces for d in read_documents(path, options=ReadOptions(**options))]


def texts(path: str | Path, **options: str) -> list[str]:
    return [d.text for d in read_documents(path, options=ReadOptions(**options))]


def refused(path: str | Path, form: str = "auto", **options: str) -> str:
    with pytest.raises(DataError) as caught:
        list(read_documents(path, format=form, options=ReadOptions(**options)))
    return str(caught.value)


# --------------------------------------------------------------------------- texts


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"one\r\ntwo\r", "one\r\ntwo\r"),
        (b"\xef\xbb\xbfa\xef\xbb\xbf", "a\ufeff"),
        (b"a\0b", "a\0b"),
        ("äö中🙂".encode(), "äö中🙂"),
    ],
)
def test_a_text_is_one_document_exactly_as_it_is(content: bytes, expected: str) -> None:
    Path("a.txt").write_bytes(content)
    (document,) = read_documents("a.txt")
    assert (document.pieces, document.where) == (((expected, True),), "a.txt")


@settings(deadline=None)
@given(data=st.text(alphabet="ab|äß🙂\n", max_size=60), block=st.integers(1, 9))
def test_documents_are_what_stands_between_separators(data: str, block: int) -> None:
    path = Path("separated.txt")
    path.write_bytes((data + "x").encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "BLOCK", block)
        for separator in ("|", "||", "\n", "ab|", "aba"):
            found = list(read_documents(path, options=ReadOptions(document_separator=separator)))
            assert [d.text for d in found] == [t for t in (data + "x").split(separator) if t]
            lines = [int(d.where.rpartition(" ")[2]) for d in found]
            assert lines == sorted(lines)
        assert "".join(read_text_blocks(path)) == data + "x"


def test_a_document_says_its_line() -> None:
    Path("a.txt").write_text("one\ntwo\n\nthree\n\n\n\nfour")
    options = ReadOptions(document_separator="\n\n")
    found = [(d.text, d.where) for d in read_documents("a.txt", options=options)]
    assert found == [
        ("one\ntwo", "a.txt, line 1"),
        ("three", "a.txt, line 4"),
        ("four", "a.txt, line 8"),
    ]


@pytest.mark.parametrize("block", [1, 2, 3, 2**20])
@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"good\nb\xe4d", "byte 0xe4 at offset 6 (line 2)"),
        (b"\xff\xfea\0b\0", "byte 0xff at offset 0 (line 1)"),
        ("a\nä".encode()[:-1], "byte 0xc3 at offset 2 (line 2)"),
    ],
)
def test_bytes_that_are_no_utf8_are_named(
    monkeypatch: pytest.MonkeyPatch, content: bytes, place: str, block: int
) -> None:
    monkeypatch.setattr(streams, "BLOCK", block)
    Path("a.txt").write_bytes(content)
    assert refused("a.txt") == (
        f"a.txt: expected UTF-8 text, got {place}; convert the file, for example with "
        "iconv -t UTF-8"
    )


def test_an_empty_file_is_refused() -> None:
    for name in ("a.txt", "bom.txt"):
        Path(name).write_bytes(b"" if name == "a.txt" else b"\xef\xbb\xbf")
        assert refused(name) == (
            f"{name}: expected a text, got an empty file; give a file with text in it"
        )
    Path("a.jsonl").write_bytes(b"\n \n")
    assert refused("a.jsonl") == (
        "a.jsonl: expected JSON lines, got an empty file; give one with records"
    )


# --------------------------------------------------------------------------- records


def write(*records: object, path: str = "a.jsonl") -> str:
    lines = [r if isinstance(r, str) else json.dumps(r) for r in records]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
    return path


def test_each_kind_of_record_has_its_pieces() -> None:
    user, system = {"role": "user", "content": "Hi"}, {"role": "system", "content": "Be brief."}
    answer = {"role": "assistant", "content": "Yo"}
    write(
        {"text": "a"},
        "",
        {"prompt": "p", "completion": "c"},
        {"prompt": "", "completion": "c"},
        {"messages": [system, user, answer, user, answer, user]},
        {"instruction": "Do", "input": "this", "output": "Done"},
        {"instruction": "Do", "input": "", "output": "Done"},
        {"instruction": "Do", "output": "Done"},
    )
    chat = (
        ("system:\nBe brief.\n\nuser:\nHi\n\nassistant:\n", False),
        ("Yo\n\n", True),
        ("user:\nHi\n\nassistant:\n", False),
        ("Yo\n\n", True),
        ("user:\nHi\n\n", False),
    )
    assert pieces("a.jsonl") == [
        (("a", True),),
        (("p", False), ("c", True)),
        (("c", True),),
        chat,
        (("Do\n\nthis\n\n", False), ("Done", True)),
        (("Do\n\n", False), ("Done", True)),
        (("Do\n\n", False), ("Done", True)),
    ]
    assert [d.where for d in read_documents("a.jsonl")][2] == "a.jsonl, line 4"


def test_the_field_of_the_text_can_be_chosen() -> None:
    write({"body": "b", "text": "t"})
    assert texts("a.jsonl") == ["t"]
    assert texts("a.jsonl", text_field="body") == ["b"]


def test_compressed_records_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "ZSTD_BLOCK", 7)
    raw = Path(write(*({"text": f"number {i} ä"} for i in range(50)))).read_bytes()
    expected = texts("a.jsonl")
    Path("b.jsonl.gz").write_bytes(gzip.compress(raw[:100]) + gzip.compress(raw[100:]))
    pack = zstandard.ZstdCompressor().compress
    Path("c.jsonl.zst").write_bytes(pack(raw[:100]) + pack(raw[100:]))
    Path("d.txt.gz").write_bytes(gzip.compress(raw))
    assert texts("b.jsonl.gz") == texts("c.jsonl.zst") == expected
    assert texts("d.txt.gz") == [raw.decode()]


def test_a_byte_order_mark_and_windows_line_ends_are_taken() -> None:
    Path("a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n\r\n{"text": "b\\r\\n"}\r\n')
    assert texts("a.jsonl") == ["a", "b\r\n"]


DEEP = '{"text": ' + "[" * 10**6 + "]" * 10**6 + "}"

BAD = [
    (
        "{",
        "expected a JSON object, got invalid JSON (Expecting property name enclosed in double "
        "quotes: line 2 column 1 (char 2)); mend or remove the line",
    ),
    (
        '{"text": "a\0b"}',
        "expected a JSON object, got invalid JSON (Invalid control character at: line 1 column 12 "
        "(char 11)); mend or remove the line",
    ),
    (DEEP, "expected a JSON object, got one nested too deeply to be read; remove the record"),
    (
        '{"text": "a", "n": -1' + "0" * 10**6 + "}",
        "expected numbers of at most 4300 digits, got a longer one; write it as a string, or "
        "remove the record",
    ),
    (
        '{"text": "a", "text": "b"}',
        "expected each field once, got 'text' twice; mend or remove the record",
    ),
    (
        '{"messages": [{"role": "assistant", "content": "a", "content": "b"}]}',
        "expected each field once, got 'content' twice; mend or remove the record",
    ),
    (
        {"\x1b[2J": 1, "x" * 99: 2},
        "expected a field 'text', or prompt and completion, messages, or instruction and output; "
        f"got the fields \\x1b[2J, {'x' * 60}...; name the field of the text with "
        "data.text_field of the run, or --text-field of tisslm tokenize",
    ),
    ("[1]", 'expected a JSON object, got a list; write each record as {"text": "..."}'),
    ("null", 'expected a JSON object, got null; write each record as {"text": "..."}'),
    (
        {"body": "x", "id": 3},
        "expected a field 'text', or prompt and completion, messages, or instruction and output; "
        "got the fields body, id; name the field of the text with "
        "data.text_field of the run, or --text-field of tisslm tokenize",
    ),
    (
        {"anchor": "a", "positive": "b"},
        "expected a field 'text', or prompt and completion, messages, or instruction and output; "
        "got the fields anchor, positive; read texts that belong together with "
        'data.name = "examples", for an encoder',
    ),
    (
        {"prompt": "p", "chosen": "a", "rejected": "b"},
        "expected a field 'text', or prompt and completion, messages, or instruction and output; "
        "got the fields prompt, chosen, rejected; read pairs of answers with "
        'data.name = "preferences"',
    ),
    ({"text": 3}, "expected 'text' to be a string, got a number; mend or remove the record"),
    ({"text": None}, "expected 'text' to be a string, got null; mend or remove the record"),
    ({"text": ""}, "expected a text to learn, got an empty one; fill it or remove the record"),
    (
        {"prompt": "p", "completion": ""},
        "expected a text to learn, got an empty one; fill it or remove the record",
    ),
    (
        {"prompt": ["p"], "completion": "c"},
        "expected 'prompt' to be a string, got a list; mend or remove the record",
    ),
    (
        {"messages": [{"role": "user", "content": "a"}]},
        "expected a text to learn, got an empty one; fill it or remove the record",
    ),
    (
        {"messages": "a"},
        "expected 'messages' to be a list, got a string; write it as "
        '[{"role": "user", "content": "..."}, ...]',
    ),
    (
        {"instruction": "a", "input": True, "output": "c"},
        "expected 'input' to be a string, got a boolean; mend or remove the record",
    ),
    (
        '{"text": "a\\ud800"}',
        "expected Unicode text, got the lone surrogate U+D800; mend or remove the record",
    ),
]


@pytest.mark.parametrize(("record", "message"), BAD)
def test_a_bad_record_is_named_by_file_and_line(record: object, message: str) -> None:
    write({"text": "good"}, "", record)
    assert refused("a.jsonl") == f"a.jsonl, line 3: {message}"


def test_what_is_not_read_may_be_there_twice() -> None:
    write('{"text": "a", "tag": 1, "tag": 2, "n": 1e999}')
    assert texts("a.jsonl") == ["a"]
    write('{"body": "a", "body": "b"}')
    with pytest.raises(DataError, match=r"line 1: expected each field once, got 'body' twice"):
        list(read_documents("a.jsonl", options=ReadOptions(text_field="body")))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.txt", "a.bin"])
def test_a_pipe_that_comes_after_the_look_is_not_waited_for(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(name)
    monkeypatch.setattr(Path, "is_file", lambda self: self.name == name)
    read = read_tokens if name == "a.bin" else lambda path: list(read_documents(path))
    with pytest.raises(DataError, match=rf"^{name}: expected a regular file, got a pipe, a device"):
        read(name)


def test_a_message_without_content_is_named() -> None:
    write({"messages": [{"role": "user", "content": "a"}, {"role": "assistant"}]})
    assert refused("a.jsonl") == (
        "a.jsonl, line 1, message 1: expected 'content' to be a string, got null; mend or remove "
        "the record"
    )
    write({"messages": [3]})
    assert refused("a.jsonl") == (
        "a.jsonl, line 1, message 0: expected an object with role and content, got a number; mend "
        "or remove the record"
    )


def test_a_record_that_is_no_utf8_is_named_by_byte() -> None:
    Path("a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "a"}\n{"text": "\xe4"}\n')
    assert refused("a.jsonl") == (
        "a.jsonl: expected UTF-8 text, got byte 0xe4 at offset 27 (line 2); convert the file, for "
        "example with iconv -t UTF-8"
    )


def test_a_line_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_LINE", 100)
    write({"text": "a"}, {"text": "x" * 100})
    assert refused("a.jsonl") == (
        "a.jsonl, line 2: expected at most 100 bytes in a line, got more; give a file of one JSON "
        "object a line"
    )


def test_bad_records_may_be_left_out_and_are_counted() -> None:
    write({"text": "a"}, "{", {"text": 3}, {"text": "b"})
    options = ReadOptions(bad=BadRecords("skip"))
    with pytest.warns(UserWarning, match="bad records") as caught:
        found = [d.text for d in read_documents("a.jsonl", options=options)]
    assert found == ["a", "b"]
    (message,) = (str(w.message) for w in caught)
    assert message.startswith(
        "a.jsonl: 2 bad records left out, the first: a.jsonl, line 2: expected a JSON object, got "
    )
    quiet = BadRecords("skip", quiet=True)
    assert len(list(read_documents("a.jsonl", options=ReadOptions(bad=quiet)))) == 2
    assert quiet.skipped == 2


def test_a_file_of_bad_records_only_is_an_error() -> None:
    write("{", "[")
    with pytest.raises(DataError, match=r"^a\.jsonl: expected a document, got none; a\.jsonl, li"):
        list(read_documents("a.jsonl", options=ReadOptions(bad=BadRecords("skip"))))


# --------------------------------------------------------------------------- compressed files


def test_a_compressed_file_that_ends_early_is_damaged() -> None:
    raw = json.dumps({"text": os.urandom(5000).hex()}).encode() + b"\n"
    Path("a.jsonl.gz").write_bytes(gzip.compress(raw)[:-3000])
    assert refused("a.jsonl.gz") == (
        "a.jsonl.gz: the compressed file is damaged or cut short (Compressed file ended before the "
        "end-of-stream marker was reached); copy it again"
    )
    Path("a.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(raw)[:-3000])
    assert refused("a.jsonl.zst") == (
        "a.jsonl.zst: the compressed file is damaged or cut short (it ends within a frame); copy "
        "it again"
    )


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_a_file_that_is_not_compressed_is_damaged(name: str) -> None:
    Path(name).write_text('{"text": "a"}\n')
    assert refused(name).startswith(f"{name}: the compressed file is damaged or cut short (")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    Path("a.jsonl.zst").write_bytes(b"")
    assert refused("a.jsonl.zst") == (
        "a.jsonl.zst: reading .zst needs the package zstandard; install it with "
        "pip install tisslm[zstd]"
    )


# --------------------------------------------------------------------------- folders, formats


def test_a_folder_is_read_in_the_order_of_its_paths(folder: Path) -> None:
    for name in ("b/z.txt", "a.txt", "b/a.jsonl", ".hidden", ".git/x.txt", "c.md"):
        path = folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"text": "record"}\n' if name.endswith("jsonl") else name)
    assert texts("data") == ["a.txt", "c.md", "record", "b/z.txt"]


def test_a_folder_without_files_or_with_other_files(folder: Path) -> None:
    (folder / "data").mkdir()
    assert refused("data") == "data: expected a folder with files in it, got an empty one"
    (folder / "data/a.txt").write_text("a")
    (folder / "data/b.bin").write_bytes(b"\0\0")
    assert refused("data") == "data/b.bin: expected text, got tokens of nanoGPT; move it elsewhere"
    with pytest.warns(UserWarning, match="data: 1 bad record left out, the first: data/b.bin: "):
        found = list(read_documents("data", options=ReadOptions(bad=BadRecords("skip"))))
    assert [d.text for d in found] == ["a"]


def test_what_is_not_there_or_never_read() -> None:
    assert refused("none") == (
        "none: no such file or folder; give the path of a text, JSON lines or tokens"
    )
    Path("a.parquet").write_bytes(b"PAR1")
    assert refused("a.parquet") == (
        "a.parquet: parquet is read where the package tisslm-parquet is installed; install it"
    )
    Path("a.pkl").write_bytes(b"")
    assert refused("a.pkl") == (
        "a.pkl: reading such a file could run any program, so it is never read; write JSON lines"
    )
    os.mkfifo("pipe.txt")
    assert refused("pipe.txt") == (
        "pipe.txt: expected a regular file, got a pipe, a device or a socket; copy it to one first"
    )


def test_a_format_of_a_file_for_a_folder_and_the_other_way(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "a.txt").write_text("a")
    for form in ("text", "jsonl"):
        assert refused("data", form) == (
            "data: expected a regular file, got a folder; name a file of it, or leave the format "
            "out to read all of it"
        )
    assert refused("a.txt", "folder") == (
        "a.txt: expected a folder, got a file; leave the format out to read it"
    )


def test_a_format_can_be_given_by_name() -> None:
    Path("a.json").write_text('{"text": "a"}')
    assert texts("a.json") == ['{"text": "a"}']
    assert [d.text for d in read_documents("a.json", format="jsonl")] == ["a"]
    with pytest.raises(ConfigError) as caught:
        find_format("a.json", "yaml")
    assert str(caught.value).startswith('data.format: expected "auto" or one of ')
    assert str(caught.value).endswith(', got "yaml"')


def test_files_for_both_parts_are_found_by_name(folder: Path) -> None:
    names = ("train.jsonl", "valid.jsonl", "test.jsonl", "train.txt", "s_train.bin", "s_val.bin")
    for name in names:
        (folder / name).write_text("")
    assert split_files(folder) == (folder / "train.jsonl", folder / "valid.jsonl")
    assert split_files("s_train.bin") == (Path("s_train.bin"), Path("s_val.bin"))
    assert split_files("s_val.bin") == (Path("s_val.bin"), None)
    assert split_files("train.jsonl") == (Path("train.jsonl"), None)
    assert split_files("train.txt") == (Path("train.txt"), None)
    (folder / "train.jsonl").rename(folder / "x")
    assert split_files(folder) == (folder, None)
    assert text.text_documents is find_format("train.txt").documents


CHAT = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}


def test_a_conversation_keeps_its_messages_for_the_template() -> None:
    document = record_document(CHAT | {"id": 3}, "here")
    assert document.messages == tuple(CHAT["messages"])
    assert document.text == "user:\na\n\nassistant:\nb\n\n"  # what a tokenizer learns from
    assert record_document(CHAT, "here", chat="plain").messages is None
    assert record_document(CHAT | {"text": "c"}, "here").messages is None
    assert record_document(CHAT | {"prompt": "c", "completion": "d"}, "here").messages is None


def test_calls_of_tools_are_not_left_out_in_silence() -> None:
    calls = {"role": "assistant", "content": "b", "tool_calls": [{"name": "f"}]}
    record = {"messages": [CHAT["messages"][0], calls]}
    with pytest.raises(DataError) as caught:
        record_document(record, "here")
    assert str(caught.value) == (
        "here, message 1: expected a message without calls of tools, got one with some, which are "
        "not written yet; remove the record"
    )
    assert record_document(record, "here", chat="plain").messages is None
    assert record_document({"messages": [calls | {"tool_calls": []}]}, "here").messages

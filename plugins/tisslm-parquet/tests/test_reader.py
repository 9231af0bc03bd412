"""Rows as documents: types of columns, bad rows, damaged files, and memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tisslm_parquet import reader
from tisslm_parquet.reader import read_documents

from tisslm.datasets.documents import Document
from tisslm.datasets.sources import BadRecords
from tisslm.errors import DataError

Write = Callable[..., Path]


def read(path: Path, column: str = "text", **options: Any) -> list[Document]:
    bad = options.pop("bad", None) or BadRecords()
    return list(read_documents(path, column, bad, **{"batch_rows": 3, **options}))


def refused(path: Path, column: str = "text") -> str:
    with pytest.raises(DataError) as caught:
        read(path, column)
    return str(caught.value)


# ------------------------------------------------------------------------------ columns


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int8(), pa.string()),
        pa.dictionary(pa.int32(), pa.large_string()),
    ],
    ids=str,
)
@pytest.mark.parametrize("batch_rows", [1, 7, 1000])
def test_texts_of_any_type_come_in_order(
    write: Write, texts: list[str], kind: pa.DataType, batch_rows: int
) -> None:
    path = write("a.parquet", text=pa.array(texts, kind), other=list(range(len(texts))))
    documents = read(path, batch_rows=batch_rows)
    assert [document.pieces for document in documents] == [((text, True),) for text in texts]
    assert documents[23].where == f"{path}, row group 2, row 23"


def test_another_column_by_its_name(write: Write) -> None:
    path = write("a.parquet", text=["no"], **{"the body": ["yes"], "a.b": ["dotted"]})
    assert read(path, "the body")[0].text == "yes"
    assert read(path, "a.b")[0].text == "dotted"


def test_prompts_are_no_targets(write: Write) -> None:
    path = write("a.parquet", prompt=["1 + 1 = "], completion=["2"], id=[7])
    assert read(path)[0].pieces == (("1 + 1 = ", False), ("2", True))


def test_the_input_of_an_instruction_is_read(write: Write) -> None:
    path = write("a.parquet", output=["2"], instruction=["Add."], input=["1 and 1"])
    assert read(path)[0].text == "Add.\n\n1 and 1\n\n2"
    path = write("b.parquet", output=["2"], instruction=["Add 1 and 1."], input=[None])
    assert read(path)[0].pieces == (("Add 1 and 1.\n\n", False), ("2", True))


def test_a_chat_is_learned_where_the_assistant_speaks(write: Write) -> None:
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    (document,) = read(write("a.parquet", messages=[chat]))
    assert [piece for piece, learn in document.pieces if learn] == ["Hello\n\n"]


def test_a_missing_column_is_named_with_those_there_are(write: Write) -> None:
    path = write("a.parquet", body=["x"], id=[1])
    assert refused(path) == (
        f"{path}: expected a column 'text', or prompt and completion, messages, or instruction and "
        "output; got the columns body, id; set data.column to the column of the text"
    )
    path = write("b.parquet", **{f"c{i}": [1] for i in range(30)})
    assert "c18, c19, ...; set data.column" in refused(path)


def test_a_column_that_comes_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(table, path)
    assert refused(path) == f"{path}: expected one column 'text', got 2; rename one"


@pytest.mark.parametrize(
    ("values", "kind", "advice"),
    [
        ([1], "int64", "cast it to string when the file is written"),
        ([b"x"], "binary", "cast it to string when the file is written"),
        (
            [["x"]],
            "list<element: string>",
            "write its text to a column of its own, or set data.column to another",
        ),
        (
            [{"body": "x"}],
            "struct<body: string>",
            "write its text to a column of its own, or set data.column to another",
        ),
    ],
)
def test_a_column_that_is_no_text_is_refused(
    write: Write, values: list[Any], kind: str, advice: str
) -> None:
    path = write("a.parquet", text=values)
    assert (
        refused(path) == f"{path}: expected column 'text' to be text (string), got {kind}; {advice}"
    )


def test_messages_of_another_type_are_refused(write: Write) -> None:
    path = write("a.parquet", messages=["Hi"])
    assert refused(path) == (
        f"{path}: expected column 'messages' to be a list of structs with the texts role and "
        "content, got string; write it so, or set data.column to a column of text"
    )
    assert "got list<" in refused(write("b.parquet", messages=[[{"role": "user"}]]))


# ------------------------------------------------------------------------------ bad rows


def bytes_as_text(*values: bytes) -> pa.Array:
    """Return a column of texts whose bytes nobody checked."""
    raw = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(values), raw.buffers())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "expected 'text' to be a string, got null; mend or remove the record"),
        ("", "expected a text to learn, got an empty one; fill it or remove the record"),
    ],
)
def test_a_bad_row_is_named(write: Write, texts: list[str], value: Any, message: str) -> None:
    path = write("a.parquet", text=[*texts[:14], value, *texts])
    assert refused(path) == f"{path}, row group 1, row 14: {message}"


def test_bytes_that_are_no_text_are_named(write: Write) -> None:
    path = write("a.parquet", text=bytes_as_text(b"fine", b"ab\xffcd"))
    assert refused(path) == (
        f"{path}, row group 0, row 1: expected UTF-8 text in column 'text', got byte 0xff at "
        "offset 2; mend or remove the row"
    )


def test_bad_rows_may_be_left_out_and_counted(write: Write) -> None:
    path = write("a.parquet", text=["a", None, "b", "", "c"], group=2)
    bad = BadRecords("skip")
    assert [document.text for document in read(path, bad=bad)] == ["a", "b", "c"]
    assert bad.skipped == 2
    assert bad.first.startswith(f"{path}, row group 0, row 1: ")


# ------------------------------------------------------------------------------ files


def test_what_is_no_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for content in (b"", b"text" * 100, b"PAR1" + bytes(range(200)) + b"PAR1"):
        path.write_bytes(content)
        said = refused(path)
        assert said.startswith(f"{path}: expected a parquet file, got one that cannot be read (")
        assert said.endswith("); check the path and its permissions, or copy the file again")
        assert "\n" not in said
    os.mkfifo(tmp_path / "pipe")
    said = refused(tmp_path / "pipe")
    assert said == f"{tmp_path / 'pipe'}: expected a regular file; copy it to one first"


def test_every_truncation_is_found(write: Write, texts: list[str], tmp_path: Path) -> None:
    whole = write("a.parquet", text=texts).read_bytes()
    path = tmp_path / "cut.parquet"
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        assert refused(path).startswith(f"{path}: expected a parquet file")


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_a_flipped_byte_gives_an_error_or_the_texts(
    texts: list[str], tmp_path: Path, compression: str
) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"text": texts}),
        path,
        compression=compression,
        row_group_size=10,
        write_page_checksum=True,
    )
    whole = path.read_bytes()
    said = []
    for place in range(4, len(whole), 31):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            read(path)
        except DataError as error:
            said.append(str(error))
    assert len(said) > 20
    assert all(message.startswith(str(path)) for message in said)


def test_a_damaged_row_group_is_named(texts: list[str], tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"text": texts}),
        path,
        compression="none",
        use_dictionary=False,
        row_group_size=10,
        write_page_checksum=True,
    )
    raw = bytearray(path.read_bytes())
    raw[raw.index(texts[25].encode()) + 3] ^= 1
    path.write_bytes(raw)
    said = refused(path)
    assert said.startswith(f"{path}, row group 2: the file is damaged or cut short (")
    assert said.endswith("); copy it again")
    # damage is no bad record: rows would be lost without a count of them
    with pytest.raises(DataError, match="row group 2: the file is damaged"):
        read(path, bad=BadRecords("skip"))


def test_a_row_group_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "BUFFER", 2**16)
    path = tmp_path / "a.parquet"
    texts = [f"{i:07}" * 150 for i in range(20_000)]  # 21 MB in one row group
    pq.write_table(pa.table({"text": texts}), path, compression="none", use_dictionary=False)
    assert pq.ParquetFile(path).metadata.num_row_groups == 1
    pool, before = pa.default_memory_pool(), pa.total_allocated_bytes()
    most = 0
    for document in read_documents(path, "text", BadRecords(), batch_rows=64):
        most = max(most, pool.bytes_allocated() - before)
        assert len(document.text) == 1050
    assert most < 5_000_000

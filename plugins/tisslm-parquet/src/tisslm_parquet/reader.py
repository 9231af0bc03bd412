"""Reading the rows of a parquet file as documents, a few at a time.

Files are found in ``files``; documents become rows of tokens in ``dataset``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from tisslm.datasets import Document
from tisslm.datasets.sources import BadRecords, ReadOptions, record_document
from tisslm.errors import DataError

__all__ = ["file_documents", "file_records", "read_documents"]

#: Bytes of a column that are read from the file at a time, instead of a whole row group.
BUFFER = 2**20

#: The default number of rows that are decoded at a time.
ROWS = 256

#: The most names of columns that a message shows.
SHOWN = 20


def file_documents(path: Path, options: ReadOptions) -> Iterator[Document]:
    """Yield the documents of a file for commands that take texts; ``text_field`` is the column.

    Raises
    ------
    DataError
        As ``read_documents`` does.
    """
    yield from read_documents(
        path, options.text_field, options.bad, batch_rows=ROWS, chat=options.chat
    )


def file_records(path: Path, options: ReadOptions) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each row of a file as a record of all its columns, with its place.

    Raises
    ------
    DataError
        If the file cannot be read, is damaged or has two columns of one name; or a text is not
        UTF-8 and bad records are errors.
    """
    with open_file(path) as file:
        names = list(file.schema_arrow.names)
        for name in names:
            _check_once(names, name, path)
        for where, batch, i in _rows(file, path, names, ROWS):
            try:
                record = {name: _value(batch, name, i, where) for name in names}
            except DataError as error:
                options.bad.refuse(str(error))
                continue
            yield where, record


def read_documents(
    path: Path,
    column: str,
    bad: BadRecords,
    *,
    batch_rows: int,
    chat: Literal["template", "plain"] = "template",
) -> Iterator[Document]:
    """Yield a document for each row of a parquet file, in the file's order.

    Parameters
    ----------
    path : Path
    column : str
        The column of the text. A file without it may have the columns that ``record_document``
        knows: prompt and completion, messages, or instruction, input and output.
    bad : BadRecords
        What happens to rows that are null, empty or not UTF-8.
    batch_rows : int
        How many rows are decoded at a time.
    chat : {"template", "plain"}
        How conversations are written, as for ``record_document``.

    Raises
    ------
    DataError
        If the file cannot be read, is damaged or has no such column, or a row is bad and bad
        records are errors.
    """
    with open_file(path) as file:
        columns = find_columns(file.schema_arrow, column, path)
        for where, batch, i in _rows(file, path, columns, batch_rows):
            try:
                record = {name: _value(batch, name, i, where) for name in columns}
                document = record_document(record, where, column, chat)
            except DataError as error:
                bad.refuse(str(error))
                continue
            yield document


def _rows(
    file: pq.ParquetFile, path: Path, columns: Sequence[str], batch_rows: int
) -> Iterator[tuple[str, Any, int]]:
    """Yield for each row of a file its place, its batch, and its number in there."""
    row = 0
    for group in range(file.metadata.num_row_groups):
        for batch in read_batches(file, path, group, columns, batch_rows):
            for i in range(batch.num_rows):
                yield f"{path}, row group {group}, row {row + i}", batch, i
            row += batch.num_rows


def open_file(path: Path) -> pq.ParquetFile:
    """Open a file and read its footer.

    Raises
    ------
    DataError
        If it is no regular file or no parquet file.
    """
    if not path.is_file():
        raise DataError(f"{path}: expected a regular file; copy it to one first")
    try:
        # without pre-buffering, a column is read in pieces and not a row group at once
        return pq.ParquetFile(
            path, pre_buffer=False, buffer_size=BUFFER, page_checksum_verification=True
        )
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path}: expected a parquet file, got one that cannot be read ({_first_line(error)}); "
            "check the path and its permissions, or copy the file again"
        ) from error


def read_batches(
    file: pq.ParquetFile, path: Path, group: int, columns: Sequence[str], batch_rows: int
) -> Iterator[Any]:
    """Yield columns of a row group, a few rows at a time; errors name the group."""
    batches = file.iter_batches(
        batch_size=batch_rows, row_groups=[group], columns=list(columns), use_threads=False
    )
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{path}, row group {group}: the file is damaged or cut short "
                f"({_first_line(error)}); copy it again"
            ) from error
        if batch is None:
            return
        yield batch


def _value(batch: Any, name: str, i: int, where: str) -> Any:
    """Return one value as a Python object: a str, None, or a list of messages."""
    try:
        return batch.column(name)[i].as_py()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: expected UTF-8 text in column {name!r}, got byte "
            f"0x{error.object[error.start]:02x} at offset {error.start}; mend or remove the row"
        ) from None


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


# --------------------------------------------------------------------------- columns


def find_columns(schema: pa.Schema, column: str, path: Path) -> list[str]:
    """Return the columns to read, after checking their types.

    Raises
    ------
    DataError
        If there are none, or one occurs twice or has another type.
    """
    names = list(schema.names)
    choices = [[column], ["prompt", "completion"], ["messages"], ["instruction", "output"]]
    chosen = next((c for c in choices if set(c) <= set(names)), None)
    if chosen is None:
        shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
        raise DataError(
            f"{path}: expected a column {column!r}, or prompt and completion, messages, or "
            f"instruction and output; got the columns {shown or 'none'}; set data.column to the "
            "column of the text"
        )
    if chosen[0] == "instruction" and "input" in names:
        chosen.insert(1, "input")
    chat = chosen == ["messages"] and column != "messages"
    for name in chosen:
        _check_once(names, name, path)
        found = schema.field(name).type
        if not (_is_chat(found) if chat else _is_text(found)):
            raise DataError(_wrong_type(path, name, found, chat))
    return chosen


def _check_once(names: Sequence[str], name: str, path: Path) -> None:
    if names.count(name) > 1:
        raise DataError(
            f"{path}: expected one column {name!r}, got {names.count(name)}; rename one"
        )


def _is_text(found: pa.DataType) -> bool:
    """Return True if values are texts, which may be dictionary-encoded.

    A column without a type has only nulls, which are bad rows and no bad column.
    """
    if pa.types.is_dictionary(found):
        found = found.value_type
    kinds = (
        pa.types.is_null,
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
    )
    return any(is_kind(found) for is_kind in kinds)


def _is_chat(found: pa.DataType) -> bool:
    """Return True if values are lists of messages with role and content."""
    if not (pa.types.is_list(found) or pa.types.is_large_list(found)):
        return False
    item = found.value_type
    fields = {f.name: f.type for f in item} if pa.types.is_struct(item) else {}
    return all(name in fields and _is_text(fields[name]) for name in ("role", "content"))


def _wrong_type(path: Path, name: str, found: pa.DataType, chat: bool) -> str:
    if chat:
        return (
            f"{path}: expected column {name!r} to be a list of structs with the texts role and "
            f"content, got {found}; write it so, or set data.column to a column of text"
        )
    advice = "cast it to string when the file is written"
    if pa.types.is_nested(found):
        advice = "write its text to a column of its own, or set data.column to another"
    return f"{path}: expected column {name!r} to be text (string), got {found}; {advice}"

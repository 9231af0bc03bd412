"""Documents of JSON lines: a text, a prompt with its completion, or a chat.

Compressed files are opened in ``streams``.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from tisslm.datasets.documents import Document
from tisslm.datasets.sources.options import ReadOptions
from tisslm.datasets.sources.streams import not_utf8, read_lines
from tisslm.errors import DataError
from tisslm.system.safe_files import show

__all__ = [
    "check_unicode",
    "json_kind",
    "jsonl_documents",
    "jsonl_records",
    "record_document",
    "record_pieces",
]

Pieces = tuple[tuple[str, bool], ...]

#: Fields that are read, beside that of the text.
FIELDS = frozenset(
    {"prompt", "completion", "messages", "role", "content", "instruction", "input", "output"}
)

#: The text between the parts of an instruction or a chat.
BLANK_LINE = "\n\n"


def jsonl_documents(path: Path, options: ReadOptions) -> Iterator[Document]:
    """Yield a document for each line of a ``.jsonl`` file, which may be compressed.

    Blank lines are passed over.

    Parameters
    ----------
    path : Path
    options : ReadOptions

    Raises
    ------
    DataError
        If a line is bad and bad records are errors, or the file has no record.
    """
    fields = FIELDS | {options.text_field}
    form = f'{{"{options.text_field}": "..."}}'
    for where, record in jsonl_records(path, options, fields, form):
        try:
            document = record_document(record, where, options.text_field, options.chat)
        except DataError as error:
            options.bad.refuse(str(error))
            continue
        yield document


def jsonl_records(
    path: Path,
    options: ReadOptions,
    fields: frozenset[str] = frozenset(),
    form: str = '{"name": "text", ...}',
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the object of each line of a ``.jsonl`` file, with the place that messages name.

    Parameters
    ----------
    path : Path
    options : ReadOptions
    fields : frozenset of str
        The fields that may not occur twice: readers disagree about them. Empty: none may.
    form : str
        What a record looks like, for the message about a line that is none.

    Raises
    ------
    DataError
        As ``jsonl_documents`` does.
    """
    found, parser = False, _parser(fields)
    for number, offset, line in read_lines(path):
        if line.isspace() or not line:
            continue
        found = True
        where = f"{path}, line {number}"
        try:
            record = _parse(parser, line, where, path, number, offset)
            if not isinstance(record, dict):
                raise DataError(
                    f"{where}: expected a JSON object, got {json_kind(record)}; write each record "
                    f"as {form}"
                )
        except DataError as error:
            options.bad.refuse(str(error))
            continue
        yield where, record
    if not found:
        raise DataError(f"{path}: expected JSON lines, got an empty file; give one with records")


class _TwiceError(Exception):
    """Raised inside the parser when a field that is read occurs twice."""


def _parser(fields: frozenset[str]) -> json.JSONDecoder:
    """Return a parser that refuses a field of these, or without these any, that occurs twice."""

    def one(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            times = Counter(name for name, _ in pairs)
            read = fields or times.keys()
            twice = next((name for name in times if times[name] > 1 and name in read), None)
            if twice is not None:
                raise _TwiceError(twice)
        return found

    return json.JSONDecoder(object_pairs_hook=one)


def _parse(
    parser: json.JSONDecoder, line: bytes, where: str, path: Path, number: int, offset: int
) -> object:
    try:
        record: object = parser.decode(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise not_utf8(path, line[error.start], offset + error.start, number) from None
    except RecursionError:
        raise DataError(
            f"{where}: expected a JSON object, got one nested too deeply to be read; "
            "remove the record"
        ) from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}: expected a JSON object, got invalid JSON ({error}); mend or remove the line"
        ) from None
    except _TwiceError as name:
        raise DataError(
            f"{where}: expected each field once, got '{name}' twice; mend or remove the record"
        ) from None
    except ValueError:  # the time that one takes grows with the square of its digits
        raise DataError(
            f"{where}: expected numbers of at most {sys.get_int_max_str_digits()} digits, got a "
            "longer one; write it as a string, or remove the record"
        ) from None
    return record


def record_document(
    record: Mapping[str, Any],
    where: str,
    text_field: str = "text",
    chat: Literal["template", "plain"] = "template",
) -> Document:
    """Return the document of a record.

    Parameters
    ----------
    record : mapping
    where : str
        What messages begin with.
    text_field : str
    chat : {"template", "plain"}
        Whether ``messages`` are written by the tokenizer's chat template, when they are encoded, or
        in the plain form of ``record_pieces``.

    Raises
    ------
    DataError
        As ``record_pieces`` does; and for calls of tools, where a template is to write them.
    """
    pieces = record_pieces(record, where, text_field)
    is_chat = "messages" in record and not (
        text_field in record or ("prompt" in record and "completion" in record)
    )
    if chat == "plain" or not is_chat:
        return Document(pieces, where)
    for number, message in enumerate(record["messages"]):
        if message.get("tool_calls") or message.get("function_call"):
            raise DataError(
                f"{where}, message {number}: expected a message without calls of tools, got one "
                "with some, which are not written yet; remove the record"
            )
    messages = tuple(
        {"role": message["role"], "content": message["content"]} for message in record["messages"]
    )
    return Document(pieces, where, messages)


def record_pieces(record: Mapping[str, Any], where: str, text_field: str = "text") -> Pieces:
    r"""Return the text of a record in pieces, each with a flag: True if it is to be learned.

    The first of these that the record has:

    - ``text`` (or ``text_field``): all of it is learned.
    - ``prompt`` and ``completion``, one after the other: the completion is learned.
    - ``messages``, a list of ``role`` and ``content``: ``role:\n content\n\n`` for each, the plain
      form; what is learned is the content of the assistant, with the blank line after it.
    - ``instruction``, ``input`` (may be missing or empty) and ``output``, with a blank line
      between: the output is learned.

    Parameters
    ----------
    record : mapping
    where : str
        What messages begin with.
    text_field : str

    Raises
    ------
    DataError
        If the record has none of these, a value has another type, or there is nothing to learn.
    """
    if text_field in record:
        pieces = [(_string(record, text_field, where), True)]
    elif "prompt" in record and "completion" in record:
        prompt = _string(record, "prompt", where)
        pieces = [(prompt, False), (_string(record, "completion", where), True)]
    elif "messages" in record:
        pieces = _chat(record["messages"], where)
    elif "instruction" in record and "output" in record:
        pieces = _instruction(record, where)
    else:
        names = ", ".join(show(name)[1:-1] for name in list(record)[:8]) or "none"
        advice = (
            "name the field of the text with data.text_field of the run, or --text-field of "
            "tisslm tokenize"
        )
        if "anchor" in record or "sentence1" in record:
            advice = 'read texts that belong together with data.name = "examples", for an encoder'
        elif "chosen" in record:
            advice = 'read pairs of answers with data.name = "preferences"'
        raise DataError(
            f"{where}: expected a field {text_field!r}, or prompt and completion, messages, or "
            f"instruction and output; got the fields {names}; {advice}"
        )
    pieces = [(text, learn) for text, learn in pieces if text]
    if not any(learn for _, learn in pieces):
        raise DataError(
            f"{where}: expected a text to learn, got an empty one; fill it or remove the record"
        )
    for text, _ in pieces:
        check_unicode(text, where)
    return tuple(pieces)


def _string(record: Mapping[str, Any], name: str, where: str) -> str:
    value = record.get(name)
    if not isinstance(value, str):
        raise DataError(
            f"{where}: expected {name!r} to be a string, got {json_kind(value)}; mend or "
            "remove the record"
        )
    return value


def _instruction(record: Mapping[str, Any], where: str) -> list[tuple[str, bool]]:
    parts = [_string(record, "instruction", where)]
    if record.get("input") is not None:
        parts.append(_string(record, "input", where))
    prompt = "".join(part + BLANK_LINE for part in parts if part)
    return [(prompt, False), (_string(record, "output", where), True)]


def _chat(messages: object, where: str) -> list[tuple[str, bool]]:
    if not isinstance(messages, list):
        raise DataError(
            f"{where}: expected 'messages' to be a list, got {json_kind(messages)}; write it as "
            '[{"role": "user", "content": "..."}, ...]'
        )
    pieces: list[tuple[str, bool]] = []
    prompt = ""
    for number, message in enumerate(messages):
        place = f"{where}, message {number}"
        if not isinstance(message, dict):
            raise DataError(
                f"{place}: expected an object with role and content, got "
                f"{json_kind(message)}; mend or remove the record"
            )
        role, content = _string(message, "role", place), _string(message, "content", place)
        prompt += f"{role}:\n"
        if role == "assistant" and content:
            pieces += [(prompt, False), (content + BLANK_LINE, True)]
            prompt = ""
        else:
            prompt += content + BLANK_LINE
    return [*pieces, (prompt, False)]


def check_unicode(text: str, where: str) -> None:
    """Raise an error for lone surrogates, which JSON can write and no tokenizer can take."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: expected Unicode text, got the lone surrogate "
            f"U+{ord(text[error.start]):04X}; mend or remove the record"
        ) from None


def json_kind(value: object) -> str:
    """Return the name that JSON has for the type of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    kinds = {str: "a string", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return kinds.get(type(value), type(value).__name__)

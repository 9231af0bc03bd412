"""Preferences: a prompt with two answers, of which one is preferred, as records have them.

What may be wrong with a record is said here; ids are made of it in ``preferences``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tisslm.datasets.documents import Document
from tisslm.datasets.examples.held_out import Records, name_of_records
from tisslm.datasets.examples.reading import read_records
from tisslm.datasets.sources.jsonl import check_unicode, json_kind, record_document
from tisslm.datasets.sources.options import ReadOptions
from tisslm.errors import DataError

__all__ = ["Preference", "preference_of", "read_preferences"]

#: The fields that are read; others are passed over, for published files have many.
FIELDS = ("prompt", "chosen", "rejected")

_WANTED = (
    'records as {"prompt": ..., "chosen": ..., "rejected": ...}, three texts or three lists of '
    "messages"
)


@dataclass(frozen=True, slots=True)
class Preference:
    """A prompt with two answers.

    Attributes
    ----------
    prompt : Document
        Without the answers; nothing in it is learned.
    answers : tuple of Document
        The prompt with the chosen answer, and with the rejected one.
    where : str
        File and place, for messages.
    """

    prompt: Document
    answers: tuple[Document, Document]
    where: str

    @property
    def key(self) -> str:
        """The text of the prompt, by which it is held out."""
        return self.prompt.text


def read_preferences(
    path: Records,
    *,
    format: str = "auto",  # noqa: A002
    options: ReadOptions | None = None,
) -> Iterator[Preference]:
    """Yield the preferences of a file one by one, always in the same order.

    Parameters
    ----------
    path : str, path-like, or sequence of mappings
        A file, or records.
    format : str
        The name of a format that has records, or "auto" to find it by the path.
    options : ReadOptions, optional

    Raises
    ------
    ConfigError
        If there is no format of this name.
    DataError
        If the path cannot be read or has no good record.
    """
    options = ReadOptions() if options is None else options
    found = 0
    for where, record in read_records(path, format, options):
        try:
            preference = preference_of(record, where, options.chat)
        except DataError as error:
            options.bad.refuse(str(error))
            continue
        found += 1
        yield preference
    name = name_of_records(path)
    if not found:
        raise DataError(f"{name}: expected a pair, got none; {options.bad.first or 'add some'}")
    options.bad.report(name)


def preference_of(
    record: Mapping[str, Any], where: str, chat: Literal["template", "plain"] = "template"
) -> Preference:
    """Return the preference of a record.

    Without a prompt, two lists of messages have what they begin with in common as their prompt.

    Parameters
    ----------
    record : mapping
    where : str
        What messages begin with.
    chat : {"template", "plain"}
        How messages are written, as for ``record_document``.

    Raises
    ------
    DataError
        If a field is missing, empty or of another type, or both answers are the same.
    """
    values = _fields(record, where)
    if values["chosen"] == values["rejected"]:
        raise DataError(
            f"{where}: expected two answers that differ, got the same one twice; remove the record"
        )
    if isinstance(values["chosen"], list):
        return _of_messages(values, where, chat)
    texts = {name: _text(values[name], name, where) for name in FIELDS}
    prompt = (texts["prompt"], False)
    chosen, rejected = (
        Document((prompt, (texts[name], True)), f"{where}, {name}") for name in FIELDS[1:]
    )
    return Preference(Document((prompt,), where), (chosen, rejected), where)


def _fields(record: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the three fields of a record, all texts or all lists."""
    values = {name: record[name] for name in FIELDS if record.get(name) is not None}
    both = [values.get(name) for name in FIELDS[1:]]
    if "prompt" not in values and all(isinstance(value, list) for value in both):
        values["prompt"], values["chosen"], values["rejected"] = _split(*both)
    for name in FIELDS:
        if name not in values:
            given = ", ".join(sorted(map(str, record))[:8]) or "none"
            raise DataError(
                f"{where}: expected a field '{name}', got the fields {given}; write {_WANTED}"
            )
    kinds = {name: json_kind(value) for name, value in values.items()}
    for name in FIELDS:
        if kinds[name] not in ("a string", "a list") or kinds[name] != kinds["prompt"]:
            wanted = "a string or a list of messages" if name == "prompt" else kinds["prompt"]
            raise DataError(
                f"{where}: expected '{name}' to be {wanted}, got {kinds[name]}; write {_WANTED}"
            )
    return values


def _split(chosen: Any, rejected: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """Return what two conversations have in common at their beginning, and the rest of each."""
    same = 0
    while same < min(len(chosen), len(rejected)) and chosen[same] == rejected[same]:
        same += 1
    return chosen[:same], chosen[same:], rejected[same:]


def _text(value: str, name: str, where: str) -> str:
    if not value.strip():
        raise DataError(
            f"{where}: expected '{name}' to be a text, got an empty one; fill it or remove the "
            "record"
        )
    check_unicode(value, where)
    return value


def _of_messages(
    values: Mapping[str, list[Any]], where: str, chat: Literal["template", "plain"]
) -> Preference:
    """Return the preference of three lists of messages."""
    for name in FIELDS:
        if not values[name]:
            what = "a prompt before the answers" if name == "prompt" else f"'{name}' with messages"
            raise DataError(f"{where}: expected {what}, got none; add one, or remove the record")
    answers, before = [], ""
    for name in FIELDS[1:]:
        place = f"{where}, {name}"
        answer = record_document({"messages": values[name]}, place, chat=chat)
        whole = record_document({"messages": values["prompt"] + values[name]}, place, chat=chat)
        before = whole.text.removesuffix(answer.text)
        answers.append(Document(((before, False), *answer.pieces), place, whole.messages))
    messages = answers[0].messages
    asked = None if messages is None else messages[: len(values["prompt"])]
    return Preference(Document(((before, False),), where, asked), (answers[0], answers[1]), where)

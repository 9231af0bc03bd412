"""Reading examples from files.

The fields of a record are in ``records``, what is held out in ``held_out``; a format is a line of
the table of ``tisslm.datasets.sources`` that has ``records``, or WordNet's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from tisslm.datasets.examples.held_out import Records, name_of_records
from tisslm.datasets.examples.records import Example, ExampleForm
from tisslm.datasets.examples.wordnet import WORDNET_FILES, is_wordnet, wordnet_records
from tisslm.datasets.sources.formats import FORMATS
from tisslm.datasets.sources.options import Format, ReadOptions
from tisslm.errors import ConfigError, DataError
from tisslm.errors.suggestions import did_you_mean

__all__ = ["read_examples", "read_records"]

_WORDNET = Format("wordnet", "WordNet's database", is_wordnet, records=wordnet_records)


def read_examples(
    path: Records,
    *,
    format: str = "auto",  # noqa: A002
    score_range: Sequence[float] = (0.0, 1.0),
    options: ReadOptions | None = None,
) -> Iterator[Example]:
    """Yield the examples of a file one by one, always in the same order.

    Parameters
    ----------
    path : str, path-like, or sequence of mappings
        A file or folder, or records.
    format : str
        The name of a format that has records, or "auto" to find it by the path.
    score_range : sequence of two numbers
        The least and the largest score.
    options : ReadOptions, optional

    Raises
    ------
    ConfigError
        If there is no format of this name, or the range is none.
    DataError
        If the path cannot be read or has no good example.
    """
    options = ReadOptions() if options is None else options
    form = ExampleForm(score_range)
    n_examples = 0
    for where, record in read_records(path, format, options):
        try:
            example = form.example(record, where)
        except DataError as error:
            options.bad.refuse(str(error))
            continue
        n_examples += 1
        yield example
    if not n_examples:
        name = name_of_records(path)
        raise DataError(f"{name}: expected an example, got none; {options.bad.first or 'add some'}")
    options.bad.report(name_of_records(path))


def read_records(
    path: Records, name: str, options: ReadOptions
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Return the records of a path, with the place of each that messages name.

    Parameters
    ----------
    path : str, path-like, or sequence of mappings
    name : str
        The name of a format that has records, or "auto".
    options : ReadOptions

    Raises
    ------
    ConfigError
        If there is no format of this name.
    DataError
        If the path cannot be read.
    """
    if not isinstance(path, str | PathLike):
        return ((f"record {number}", record) for number, record in enumerate(path))
    table = [*options.formats, _WORDNET, *FORMATS]
    readers = {entry.name: entry for entry in table if entry.records is not None}
    if name != "auto" and name not in readers:
        known = ", ".join(readers)
        raise ConfigError(
            f'data.format: expected "auto" or one of {known}, got "{name}".'
            f"{did_you_mean(name, readers)}"
        )
    where = Path(path)
    if not where.exists():
        raise DataError(
            f"{where}: no such file or folder; give a file of JSON lines, or a folder with "
            f"{WORDNET_FILES[0]}, WordNet's"
        )
    chosen = [entry for entry in readers.values() if name in ("auto", entry.name)]
    for entry in chosen:
        if entry.records is not None and (name != "auto" or entry.recognizes(where)):
            return entry.records(where, options)
    raise DataError(
        f"{where}: expected a file of examples ({', '.join(e.what for e in chosen)}), got one of "
        "another kind; name its format with data.format"
    )

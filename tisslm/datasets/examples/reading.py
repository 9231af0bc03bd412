"""Reading examples from files, and choosing those that are held out.

The fields of a record are in ``records``; a format is a line of the table of
``tisslm.datasets.sources`` that has ``records``, or WordNet's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from tisslm.datasets.encoding import GrowingArray
from tisslm.datasets.examples.records import Example, ExampleForm
from tisslm.datasets.examples.wordnet import WORDNET_FILES, is_wordnet, wordnet_records
from tisslm.datasets.sources.formats import FORMATS
from tisslm.datasets.sources.options import BadRecords, Format, ReadOptions
from tisslm.errors import ConfigError, DataError
from tisslm.errors.suggestions import did_you_mean

__all__ = ["ExampleSource", "Records", "read_examples"]

#: Where examples are: a file or folder, or the records themselves.
Records = str | PathLike[str] | Sequence[Mapping[str, Any]]

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
    for where, record in _records(path, format, options):
        try:
            example = form.example(record, where)
        except DataError as error:
            options.bad.refuse(str(error))
            continue
        n_examples += 1
        yield example
    if not n_examples:
        name = _name(path)
        raise DataError(f"{name}: expected an example, got none; {options.bad.first or 'add some'}")
    options.bad.report(_name(path))


def _name(path: Records) -> str:
    return str(path) if isinstance(path, str | PathLike) else "records"


def _records(
    path: Records, name: str, options: ReadOptions
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Return the records of a path, with the place of each."""
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


# --------------------------------------------------------------------------- a part of them


@dataclass(frozen=True)
class ExampleSource:
    """The examples of a path, or a part of them.

    Which are held out, the anchors' texts tell: no text is the anchor of examples on both sides.
    The choice depends on no seed, so another run validates on the same ones.

    Attributes
    ----------
    path : str, path-like, or sequence of mappings
    format : str
    score_range : sequence of two numbers
    options : ReadOptions
    valid_fraction : float
        The share of examples that is held out.
    valid_examples : int
        How many are held out, in place of a share; 0 leaves it to that. Examples of one anchor stay
        together, so there may be a few more.
    held_out : bool or None
        True for those held out, False for the others, None for all.
    """

    path: Records
    format: str = "auto"
    score_range: Sequence[float] = (0.0, 1.0)
    options: ReadOptions = field(default_factory=ReadOptions)
    valid_fraction: float = 0.0
    valid_examples: int = 0
    held_out: bool | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        part = {None: "", False: ", training part", True: ", validation part"}[self.held_out]
        return f"{_name(self.path)}{part}"

    def examples(self) -> Iterator[Example]:
        """Yield the examples of the part, in the order of the file.

        Raises
        ------
        DataError
            If there are none, or one is bad and bad records are errors.
        """
        if self.held_out is None:
            yield from self._read(self.options)
            return
        bound, found = self.bound, 0
        for example in self._read(self.options):
            if (_key(example) <= bound) == self.held_out:
                found += 1
                yield example
        if not found:
            raise DataError(
                f"{self.name}: expected an example, got none, since all have one anchor; give "
                "more of them, or set data.valid_fraction to 0"
            )

    def part(self, *, held_out: bool) -> ExampleSource:
        """Return the examples that are held out, or the others, of the same choice."""
        bad = BadRecords(self.options.bad.policy, quiet=True)  # they were told of before
        found = replace(self, held_out=held_out, options=replace(self.options, bad=bad))
        found.__dict__["bound"] = self.bound
        return found

    def _read(self, options: ReadOptions) -> Iterator[Example]:
        return read_examples(
            self.path, format=self.format, score_range=self.score_range, options=options
        )

    @cached_property
    def bound(self) -> int:
        """The largest key of an example that is held out, -1 if none is; all are read for it."""
        keys = GrowingArray(np.dtype(np.uint64))
        bad = BadRecords(self.options.bad.policy, quiet=True)
        for example in self._read(replace(self.options, bad=bad)):
            keys.extend([_key(example)])
        found = keys.taken()
        share = Fraction(str(float(self.valid_fraction)))
        wanted = self.valid_examples
        if not wanted and share:
            wanted = max(1, round(len(found) * share))
        if wanted >= len(found):
            raise DataError(
                f"{_name(self.path)}: expected more examples than the {wanted} to hold out, got "
                f"{len(found)}; set data.valid_examples, or data.valid_fraction, to less"
            )
        return int(np.partition(found, wanted - 1)[wanted - 1]) if wanted else -1


def _key(example: Example) -> int:
    """Return a number by which examples are held out: that of the anchor's text."""
    digest = hashlib.blake2b(example.texts[0].encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "little")

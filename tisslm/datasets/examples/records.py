"""Examples of embedding learning: the fields of a record, and what may be wrong with them.

Files are read in ``reading``, WordNet's in ``wordnet``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tisslm.datasets.sources.jsonl import check_unicode, json_kind
from tisslm.errors import ConfigError, DataError
from tisslm.errors.suggestions import did_you_mean
from tisslm.system.safe_files import show

__all__ = ["Example", "ExampleForm"]

#: The fields of the two kinds of records; negatives may be numbered, too.
RANKED = ("anchor", "positive", "negative")
SCORED = ("sentence1", "sentence2", "score")

_NUMBERED = re.compile(r"negative_([1-9][0-9]{0,3})")

_WANTED = (
    '{"anchor": ..., "positive": ...}, with "negative" (a text or a list of them) or '
    '"negative_1", "negative_2", ..., or {"sentence1": ..., "sentence2": ..., "score": ...}'
)


@dataclass(frozen=True, slots=True)
class Example:
    """Texts that belong together, or do not.

    Attributes
    ----------
    texts : tuple of str
        The anchor, the positive, then hard negatives; or the two texts of a score.
    score : float or None
        How much alike the two texts are, in [-1, 1].
    where : str
        File and place, for messages.
    """

    texts: tuple[str, ...]
    score: float | None
    where: str

    @property
    def key(self) -> str:
        """The anchor, by which it is held out."""
        return self.texts[0]


class ExampleForm:
    """What the records of a dataset look like: all as the first one does.

    Parameters
    ----------
    score_range : sequence of two numbers
        The least and the largest score; scores are divided by the largest.

    Raises
    ------
    ConfigError
        If the range is none, or the scores divided would not be in [-1, 1].
    """

    def __init__(self, score_range: Sequence[float] = (0.0, 1.0)) -> None:
        self._low, self._high = _bounds(score_range)
        self._n_texts = 0
        self._scored = False

    def example(self, record: Mapping[str, Any], where: str) -> Example:
        """Return the example of a record.

        Parameters
        ----------
        record : mapping
        where : str
            What messages begin with.

        Raises
        ------
        DataError
            If a field is missing, unknown, empty or of another type, a score is out of its range,
            or the record has another number of texts than the first one.
        """
        scored = "anchor" not in record and any(name in record for name in SCORED)
        numbered = () if scored else _numbered(record)
        _check_names(record, (*(SCORED if scored else RANKED), *numbered), where)
        if scored:
            texts = [_text(record, name, where) for name in SCORED[:2]]
            found = Example(tuple(texts), self._score(record, where), where)
        else:
            texts = [_text(record, name, where) for name in RANKED[:2]]
            found = Example((*texts, *_negatives(record, numbered, where)), None, where)
        self._check_form(found)
        return found

    def _score(self, record: Mapping[str, Any], where: str) -> float:
        value = record.get("score")
        low, high = self._low, self._high
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DataError(
                f"{where}: expected 'score' to be a number, got {json_kind(value)}; mend or remove "
                "the record"
            )
        if not low <= value <= high:
            raise DataError(
                f"{where}: expected a score from {low:g} to {high:g}, got {value:g}; mend the "
                "record, or set data.score_range to the least and the largest score"
            )
        return float(value) / high

    def _check_form(self, found: Example) -> None:
        """Refuse a record of another form than the first one's."""
        n_texts, scored = len(found.texts), found.score is not None
        if not self._n_texts:
            self._n_texts, self._scored = n_texts, scored
        if scored != self._scored:
            kinds = ("anchor and positive", "a score")
            raise DataError(
                f"{found.where}: expected {kinds[self._scored]}, as the first record has, got "
                f"{kinds[scored]}; keep the two kinds of records in files of their own"
            )
        if n_texts != self._n_texts:
            raise DataError(
                f"{found.where}: expected {_count(self._n_texts - 2)}, as the first record has, "
                f"got {n_texts - 2}; give every record as many"
            )


def _bounds(score_range: object) -> tuple[float, float]:
    """Return the two ends of a range of scores."""
    given = score_range if isinstance(score_range, list | tuple) else ()
    numbers = [v for v in given if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) == len(given) == 2 and all(map(math.isfinite, numbers)):
        low, high = map(float, numbers)
        if high > 0 and -high <= low < high:
            return low, high
    raise ConfigError(
        "data.score_range: expected the least and the largest score, such as [0, 5] or [-1, 1], "
        f"with the largest above 0 and the least not below its opposite, got {show(score_range)}"
    )


def _numbered(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the fields ``negative_1`` ... of a record, in the order of their numbers."""
    found = {int(m[1]): name for name in record if (m := _NUMBERED.fullmatch(name))}
    return tuple(found[number] for number in sorted(found))


def _check_names(record: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    """Refuse a record without the fields of its kind, or with others."""
    unknown = [name for name in record if name not in known]
    missing = next((n for n in _needed(known) if n not in record), "")
    if unknown:
        near = did_you_mean(unknown[0], known)
        raise DataError(
            f"{where}: expected {_WANTED}; got a field {show(unknown[0])}.{near} Rename or remove "
            "it"
        )
    if missing:
        fields = ", ".join(show(name)[1:-1] for name in record) or "none"
        what = "a positive for the anchor" if missing == "positive" else f"a field {missing!r}"
        raise DataError(
            f"{where}: expected {what}, got the fields {fields}; write records as {_WANTED}"
        )


def _needed(known: Sequence[str]) -> tuple[str, ...]:
    return SCORED if known[0] == SCORED[0] else RANKED[:2]


def _negatives(record: Mapping[str, Any], numbered: Sequence[str], where: str) -> list[str]:
    """Return the hard negatives of a record: those of ``negative`` first."""
    for number, name in enumerate(numbered, 1):
        if name != f"negative_{number}":
            raise DataError(
                f"{where}: expected 'negative_{number}' before {name!r}, got none; number the "
                "negatives from 1 on"
            )
    given = record.get("negative", [])
    if isinstance(given, list):
        found = [_one_text(text, f"negative[{i}]", where) for i, text in enumerate(given)]
    else:
        found = [_one_text(given, "negative", where)]
    return found + [_text(record, name, where) for name in numbered]


def _text(record: Mapping[str, Any], name: str, where: str) -> str:
    return _one_text(record[name], name, where)


def _one_text(value: object, name: str, where: str) -> str:
    """Return a text that has something in it."""
    if not isinstance(value, str):
        raise DataError(
            f"{where}: expected {name!r} to be a text, got {json_kind(value)}; mend or remove the "
            "record"
        )
    if not value.strip():
        raise DataError(
            f"{where}: expected {name!r} to be a text, got an empty one; fill it or remove the "
            "record"
        )
    check_unicode(value, where)
    return value


def _count(n_negatives: int) -> str:
    return "1 negative" if n_negatives == 1 else f"{n_negatives} negatives"

"""The metrics of ``metrics.jsonl`` by their names: what is damaged is named and left out.

What does not live here: lines (``metric_lines``), what the metrics mean (``catalogue``), and the
other files of a run (``reading``).
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts.metric_values import Histogram
from tisslm.errors import DataError
from tisslm.system.safe_files import Refusal, RegularFile, show
from tisslm.system.strict_json import read_number
from tisslm.tracking import metric_lines
from tisslm.tracking.metric_lines import LineCutter, parse_record
from tisslm.tracking.report.series import Kept, Series

__all__ = ["Metrics", "Problems", "read_metrics"]

MOST_NAMES = 20_000  # different metrics
MOST_LOOKS = 64  # histograms and texts kept of a name
LONGEST_TEXT = 4000  # characters of a sample

_FILE = Refusal(DataError, "the metrics cannot be read", "give the directory of another run")
_LINE = Refusal(DataError, "left out", "the other lines are used")


class Problems:
    """What was found wrong in the files of a run, as sentences: the first ones, and how many."""

    MOST = 20

    def __init__(self) -> None:
        self.first: list[str] = []
        self.count = 0

    def add(self, sentence: object) -> None:
        """Note one problem."""
        self.count += 1
        if len(self.first) < self.MOST:
            self.first.append(str(sentence))

    @property
    def sentences(self) -> list[str]:
        """The first problems, and a sentence about the others."""
        more = self.count - len(self.first)
        return [*self.first, f"and {more} more"] if more else list(self.first)


@dataclass
class Metrics:
    """All that ``metrics.jsonl`` has, by the names of the metrics, in their order.

    Attributes
    ----------
    scalars : dict of str to Series
    histograms : dict of str to list of (step, Histogram)
    texts : dict of str to list of (step, str)
    """

    scalars: dict[str, Series] = field(default_factory=dict)
    histograms: dict[str, list[tuple[int, Histogram]]] = field(default_factory=dict)
    texts: dict[str, list[tuple[int, str]]] = field(default_factory=dict)


def read_metrics(path: Path, problems: Problems) -> Metrics:
    """Read a file of metrics; lines and values that cannot be used go to ``problems``.

    Parameters
    ----------
    path : Path
    problems : Problems

    Raises
    ------
    DataError
        If the file cannot be opened or read.
    """
    collected, cutter, number = _Collector(problems), LineCutter(), 0
    too_long = f"expected at most {metric_lines.LONGEST_LINE} bytes"
    with RegularFile(path, _FILE, follow=True) as file:
        for number, line in enumerate(cutter.lines(file.blocks()), 1):
            where = f"{path}, line {number}"
            if line is None:
                problems.add(_LINE(where, too_long))
            else:
                collected.take(line + b"\n", where)  # messages count its end as well
    if cutter.rest or cutter.too_long:
        reason = too_long if cutter.too_long else "expected a whole line, got one without its end"
        problems.add(_LINE(f"{path}, line {number + 1}", reason))
    return collected.metrics()


class _Collector:
    """Gather values by name."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self._scalars: dict[str, tuple[array[float], array[float]]] = {}
        self._histograms: dict[str, Kept[Histogram]] = {}
        self._texts: dict[str, Kept[str]] = {}
        self._full = False

    def take(self, line: bytearray, where: str) -> None:
        """Take the metrics of one line."""
        try:
            step, record = parse_record(line, where, _LINE)
        except DataError as error:
            self.problems.add(error)
            return
        for name, value in record.items():
            try:
                self._put(step, name, value)
            except ValueError as reason:
                self.problems.add(_LINE(f"{where}, metric {show(name)}", reason))

    def _put(self, step: int, name: str, value: object) -> None:
        homes: tuple[dict[str, Any], ...] = (self._scalars, self._histograms, self._texts)
        if not any(name in home for home in homes) and sum(map(len, homes)) >= MOST_NAMES:
            if not self._full:
                self._full = True
                raise ValueError(f"expected at most {MOST_NAMES} different names")
            return
        if isinstance(value, dict) and "text" in value:
            self._texts.setdefault(name, Kept(MOST_LOOKS)).add(step, _text(value))
        elif isinstance(value, dict):
            self._histograms.setdefault(name, Kept(MOST_LOOKS)).add(step, _histogram(value))
        else:
            number = _number(value)
            steps, values = self._scalars.setdefault(name, (array("d"), array("d")))
            steps.append(step)
            values.append(number)

    def metrics(self) -> Metrics:
        """Return what was gathered."""
        return Metrics(
            scalars={name: Series.of(*pair) for name, pair in self._scalars.items()},
            histograms={name: kept.items for name, kept in self._histograms.items()},
            texts={name: kept.items for name, kept in self._texts.items()},
        )


# --------------------------------------------------------------------------- values


def _number(value: object) -> float:
    number = read_number(value)
    if number is None:
        raise ValueError(f"expected a number, a histogram or a text, got {show(value)}")
    return number


def _text(value: Mapping[str, Any]) -> str:
    text = value["text"]
    if not isinstance(text, str):
        raise ValueError(f"expected text, got {show(text)}")
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} ..."


def _histogram(value: Mapping[str, Any]) -> Histogram:
    edges, counts = (_numbers(value, name) for name in ("edges", "counts"))
    if len(counts) < 1 or len(edges) != len(counts) + 1:
        raise ValueError(
            f"expected one edge more than counts, got {len(edges)} edges and {len(counts)} counts"
        )
    if not (np.all(np.abs(edges) < 1e300) and np.all(np.diff(edges) >= 0) and edges[-1] > edges[0]):
        raise ValueError("expected finite edges that ascend")
    if not np.all((counts >= 0) & (counts < 2.0**53) & (counts % 1 == 0)):
        raise ValueError("expected counts, integers of at least 0")
    total, squares = (_number(value.get(name)) for name in ("total", "squares"))
    return Histogram(counts.astype(np.int64), edges, total, squares)


def _numbers(value: Mapping[str, Any], name: str) -> NDArray[np.float64]:
    found = value.get(name)
    if not isinstance(found, list):
        raise ValueError(f"expected a text, or a histogram with {name}, got {show(sorted(value))}")
    return np.array([_number(item) for item in found], np.float64)

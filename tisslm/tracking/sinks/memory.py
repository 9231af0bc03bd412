"""The sink ``memory``: the metrics of a run as a list, for the program that trains.

Nothing is written to a file: a run that must not lose its metrics wants ``jsonl``, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from tisslm.contracts import Histogram, RunInfo, Sink, Text
from tisslm.errors import ConfigError, DataError

__all__ = ["MemorySink"]


@final
class MemorySink(Sink):
    """Keep what is written, as it was given.

    Opened for a run that goes on from step s, it drops the rows of later steps; for a new run, all.

    Parameters
    ----------
    max_rows : int, default 0
        The newest so many are kept; 0 keeps all.

    Attributes
    ----------
    rows : list of dict
        A row for each ``write``: "step", then its metrics. Numbers are numbers, also those that
        are not finite; histograms and texts are ``Histogram`` and ``Text``.

    Examples
    --------
    >>> sink = MemorySink()
    >>> trainer = Trainer(model, dataset=dataset, sinks=[sink])  # doctest: +SKIP
    >>> trainer.train()  # doctest: +SKIP
    >>> sink.values("train/loss")  # doctest: +SKIP
    [(1, 4.17), (2, 4.11)]
    """

    accepts = frozenset({float, Histogram, Text})

    def __init__(self, *, max_rows: int = 0) -> None:
        if not isinstance(max_rows, int) or isinstance(max_rows, bool) or max_rows < 0:
            raise ConfigError(f"sink memory: max_rows: expected an integer >= 0, got {max_rows!r}")
        self._max_rows = max_rows
        self.rows: list[dict[str, Any]] = []

    def open(self, run: RunInfo) -> None:
        """Begin; keep the rows up to the step that the run goes on from."""
        last = run.resumed_step or -1  # a new run keeps none
        self.rows[:] = [row for row in self.rows if row["step"] <= last]

    def write(self, step: int, metrics: Mapping[str, object]) -> None:
        """Append one row.

        Raises
        ------
        DataError
            If a metric is called "step".
        """
        if "step" in metrics:
            raise DataError(
                "sink memory: 'step' is the first field of every row; rename the metric"
            )
        self.rows.append({"step": int(step), **metrics})
        if self._max_rows:
            del self.rows[: -self._max_rows]

    def values(self, name: str) -> list[tuple[int, Any]]:
        """Return the steps and values of one metric, oldest first.

        Parameters
        ----------
        name : str
        """
        return [(row["step"], row[name]) for row in self.rows if name in row]

"""A run seen from outside, by the files that it writes: what it does, and whether it still does it.

Nothing is written, so any run that can be read can be watched, on a shared disk also from another
machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, final

from tisslm.checkpoint.declared_metrics import declared_metrics
from tisslm.checkpoint.owner import owner_of
from tisslm.checkpoint.run_directory import CONFIG, METRICS, SUMMARY, metrics_file
from tisslm.errors import DataError, TissLMError
from tisslm.system.quantities import duration_text
from tisslm.system.safe_files import Refusal
from tisslm.system.strict_json import read_json
from tisslm.system.strict_toml import read_toml
from tisslm.tracking.terminal.board import Status
from tisslm.tracking.terminal.history import LARGEST, History
from tisslm.tracking.terminal.tail import Tail

__all__ = ["Attached", "newest_run"]

#: Seconds without a sign of life of the owner after which it is told.
_QUIET = 90.0

_SUMMARY_BYTES: Final = 2**20

_REFUSAL = Refusal(DataError, "the run cannot be read", "name another run")

#: How the ends of a run look.
_STYLES = {"completed": "good", "stopped": "warn", "interrupted": "warn", "failed": "bad"}


def newest_run(folder: Path) -> Path:
    """Return the run of a folder that was begun or went on last.

    Raises
    ------
    DataError
        If there is none.
    """
    runs = [path for path in folder.glob("*") if (path / CONFIG).is_file()]
    if not runs:
        raise DataError(
            f"{folder}: expected a folder of runs, found none in it; name a run directory: "
            "tisslm top RUN"
        )
    return max(runs, key=lambda path: (path / CONFIG).stat().st_mtime)


@final
class Attached:
    """A run and what is known of it.

    Parameters
    ----------
    path : Path
        Its directory.

    Attributes
    ----------
    history : History

    Raises
    ------
    DataError
        If it is no run directory, or its configuration cannot be read.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            got = "a file" if path.exists() else "nothing there"
            raise DataError(f"{path}: expected a run directory, got {got}; runs are below runs/")
        if not (path / CONFIG).is_file() and not (path / METRICS).is_file():
            raise DataError(
                f"{path}: expected a run directory, with {CONFIG} and {METRICS}, got a directory "
                "without them; runs are below runs/"
            )
        self.path = path
        self.history = History(declared_metrics(path, _REFUSAL))
        self._config = _config_of(path)
        log = self._config.get("log")
        self._options = log if isinstance(log, dict) else {}
        self._tail = Tail(metrics_file(path, self._config))

    def refresh(self) -> bool:
        """Read what has been added; tell whether there was anything.

        Raises
        ------
        DataError
            If the metrics can no longer be read.
        """
        records, news = self._tail.read(), False
        if self._tail.anew:
            self.history = History(self.history.own)
        for step, metrics in records:
            self.history.record(step, metrics)
            news = True
        return news

    def status(self) -> Status:
        """Return what the owner's file and the summary say now."""
        owner = owner_of(self.path)
        summary = self._summary()
        max_steps = self._max_steps(summary)
        name = str(self._training().get("name") or self.path.resolve().name)
        if owner is not None and not owner.gone:
            state, style = "running", "good"
            if owner.age > _QUIET:
                state, style = f"no sign of life for {duration_text(owner.age)}", "warn"
            return Status(
                name,
                state,
                style,
                max_steps,
                elapsed=max(0.0, time.time() - owner.began) if owner.began else None,
                left=self.history.seconds_left(max_steps),
                note=self._note(),
            )
        ended = summary.get("status")
        if owner is not None:  # its process is gone, and it has not cleaned up
            state, style = "killed: its process is gone", "bad"
        elif isinstance(ended, str):
            state, style = ended, _STYLES.get(ended, "warn")
            if isinstance(why := summary.get("stopped_by"), str) and why:
                state = f"{state} by {why}"
        else:
            state, style = "not at work", "warn"
        seconds = summary.get("seconds")
        elapsed = None
        if isinstance(seconds, int | float) and abs(seconds) < LARGEST and owner is None:
            elapsed = float(seconds)
        return Status(name, state, style, max_steps, elapsed=elapsed, note=self._note())

    def _note(self) -> str:
        """Return where the run is, and what is wrong with its metrics."""
        if not self.history.latest:
            wanted = self._options.get("sinks")
            if isinstance(wanted, list) and "jsonl" not in wanted:
                return "no metrics: the run has no sink jsonl"
            return f"no metrics yet in {self._tail.path}"
        damaged = self._tail.damaged
        return f"{self.path}{f', {damaged} damaged lines' if damaged else ''}"

    def _training(self) -> Mapping[str, Any]:
        found = self._config.get("training")
        return found if isinstance(found, dict) else {}

    def _summary(self) -> dict[str, Any]:
        try:
            return read_json(self.path / SUMMARY, _SUMMARY_BYTES)
        except TissLMError:  # there is none before the end, and it is replaced whole
            return {}

    def _max_steps(self, summary: Mapping[str, Any]) -> int:
        """Return where the run ends: as configured, or by its epochs, whose length it reports."""
        training = self._training()
        chosen = training.get("max_steps")
        if isinstance(chosen, int) and chosen > 0:
            return chosen
        epochs, epoch = training.get("epochs"), self.history.latest.get("train/epoch", 0.0)
        if isinstance(epochs, int) and 1e-12 < epoch < math.inf and self.history.step > 0:
            return round(epochs * self.history.step / epoch)
        steps = summary.get("steps")
        return steps if isinstance(steps, int) and summary.get("status") == "completed" else 0


def _config_of(path: Path) -> dict[str, Any]:
    if not (path / CONFIG).exists():  # metrics alone can be shown, too
        return {}
    return read_toml(path / CONFIG, _REFUSAL)

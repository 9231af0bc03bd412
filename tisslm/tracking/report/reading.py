"""A run as its directory tells it: metrics, configuration, summary, environment.

Only the metrics must be there; whatever else is missing or damaged is named and shown as not
known, so runs of older versions, runs that were killed and runs at work have a report, too.

What does not live here: lines of metrics (``records``), and any drawing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tisslm.checkpoint.declared_metrics import declared_metrics
from tisslm.checkpoint.owner import owner_of
from tisslm.checkpoint.run_directory import CONFIG, ENVIRONMENT, METRICS, SUMMARY, metrics_file
from tisslm.config.metric_types import Metric
from tisslm.errors import DataError, TissLMError
from tisslm.system.safe_files import Refusal
from tisslm.system.strict_json import read_json
from tisslm.system.strict_toml import read_toml
from tisslm.tracking.report.records import Metrics, Problems, read_metrics
from tisslm.tracking.report.series import Series

__all__ = ["Run", "read_run"]

_LARGEST_JSON = 2**20  # bytes
_SMALL = Refusal(DataError, "left out of the report", "the other files are used")


@dataclass(frozen=True)
class Run:
    """What is known of a run.

    Attributes
    ----------
    path : Path
    label : str
        The name of the run in this report.
    metrics : Metrics
    config, summary, environment : mapping
        Empty if not known.
    own : tuple of Metric
        The metrics that the parts of the run have declared.
    at_work, killed : bool
        True if a trainer is in the directory, or one that is gone has not cleaned up.
    problems : Problems
        Sentences about its damaged files.
    """

    path: Path
    label: str
    metrics: Metrics = field(default_factory=Metrics)
    config: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    own: tuple[Metric, ...] = ()
    at_work: bool = False
    killed: bool = False
    problems: Problems = field(default_factory=Problems)

    @property
    def scalars(self) -> dict[str, Series]:
        """The metrics that are numbers."""
        return self.metrics.scalars

    @property
    def last_step(self) -> int:
        """The last step that any metric has; 0 if there is none."""
        return int(max((s.x[-1] for s in self.scalars.values() if s), default=0))

    @property
    def state(self) -> str:
        """How the run ended, as far as the files tell."""
        if self.at_work or self.killed:
            return "killed" if self.killed else "at work"
        status, reason = self.summary.get("status"), self.summary.get("stopped_by")
        if not isinstance(status, str):
            return "not known"
        return f"{status} ({reason})" if reason else status

    def setting(self, section: str, key: str) -> Any:
        """Return a value of the configuration, or None."""
        table = self.config.get(section)
        return table.get(key) if isinstance(table, Mapping) else None


def read_run(path: Path, label: str = "") -> Run:
    """Read a run directory.

    Parameters
    ----------
    path : Path
    label : str
        The name of the run in the report; left out, the directory's name.

    Raises
    ------
    DataError
        If it is no directory, or its metrics are missing or cannot be read.
    """
    if not path.is_dir():
        got = "a file" if path.exists() else "nothing there"
        raise DataError(f"{path}: expected the directory of a run, got {got}; name one of runs/")
    problems = Problems()
    config = _optional(path / CONFIG, problems)
    metrics = metrics_file(path, config)
    if not metrics.resolve().is_relative_to(path.resolve()) or metrics.is_dir():
        metrics = path / METRICS  # a report is handed on, and shows nothing from elsewhere
    if not metrics.exists():
        raise DataError(
            f"{path}: expected {metrics.name} of a run, got none; give the directory of a run "
            'whose log.sinks had "jsonl"'
        )
    owner = owner_of(path)
    return Run(
        path=path,
        label=label or path.resolve().name,
        config=config,
        summary=_optional(path / SUMMARY, problems),
        environment=_optional(path / ENVIRONMENT, problems),
        own=_declared(path, problems),
        metrics=read_metrics(metrics, problems),
        at_work=owner is not None and not owner.gone,
        killed=owner is not None and owner.gone,
        problems=problems,
    )


def _declared(path: Path, problems: Problems) -> tuple[Metric, ...]:
    try:
        return declared_metrics(path, _SMALL)
    except TissLMError as error:
        problems.add(error)
        return ()


def _optional(path: Path, problems: Problems) -> Mapping[str, Any]:
    """Read a small file of a run; nothing if it is not there or cannot be used."""
    if not path.exists():
        return {}
    try:
        if path.suffix == ".toml":
            return read_toml(path, _SMALL)
        return read_json(path, _LARGEST_JSON, _SMALL)
    except TissLMError as error:
        problems.add(error)
        return {}

"""The metrics that the parts of a run declare, kept in a file of the run directory.

The file is for everything that looks at a run later without having its parts: a report, ``tisslm
top``, the search for the best checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tisslm.config.metric_types import Metric
from tisslm.errors import CheckpointError, ConfigError
from tisslm.system.safe_files import Refusal
from tisslm.system.strict_json import read_json

__all__ = ["DECLARED", "declared_metrics", "plain_declarations"]

DECLARED = "declared_metrics.json"
_LARGEST = 2**20  # bytes
_UNUSABLE = Refusal(
    CheckpointError, "the declared metrics cannot be read", "remove it if they are not needed"
)


def plain_declarations(metrics: Iterable[Metric]) -> dict[str, Any]:
    """Return the metrics as the JSON value that the file holds."""
    return {"metrics": [metric.plain() for metric in metrics]}


def declared_metrics(run: Path, refusal: Refusal = _UNUSABLE) -> tuple[Metric, ...]:
    """Return the metrics that the parts of a run have declared; none if the run has no such file.

    Parameters
    ----------
    run : Path
        The run directory.
    refusal : Refusal
        Makes the exception for a file that cannot be used.

    Raises
    ------
    TissLMError
        If the file cannot be used; ``refusal`` decides which.
    """
    path = run / DECLARED
    if not path.exists():
        return ()
    found = read_json(path, _LARGEST, refusal).get("metrics")
    try:
        if not isinstance(found, list):
            raise ConfigError("expected a list of metrics")
        return tuple(Metric.of_plain(one) for one in found)
    except ConfigError as error:
        raise refusal(path, error) from None

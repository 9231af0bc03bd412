"""What the parts of a run declare of their metrics, kept in the run directory.

Who looks at a run later has its files and not its parts: a report, ``tisslm top``, the search for
the best checkpoint.
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
    """Return what the file holds."""
    return {"metrics": [metric.plain() for metric in metrics]}


def declared_metrics(run: Path, refusal: Refusal = _UNUSABLE) -> tuple[Metric, ...]:
    """Return what the parts of a run have declared; nothing of a run that has no such file.

    Parameters
    ----------
    run : Path
        Its directory.
    refusal : Refusal

    Raises
    ------
    TissLMError
        The refusal's, if the file cannot be used.
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

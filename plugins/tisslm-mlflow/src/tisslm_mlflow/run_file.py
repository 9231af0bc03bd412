"""The file in a run directory that names its MLflow run, by which a resumed run finds it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tisslm.errors import ConfigError

__all__ = ["NAME", "read", "write"]

NAME = "mlflow.json"

#: The most bytes of such a file; a larger one is not read.
LARGEST = 65536


def read(directory: Path, tracking_uri: str) -> str | None:
    """Return the id of a directory's MLflow run, None if it has none on this server.

    Raises
    ------
    ConfigError
        If the file exists and cannot be read.
    """
    path = directory / NAME
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _refused(path, error.strerror or "it cannot be read") from None
    if len(content) > LARGEST:
        raise _refused(path, f"it is larger than {LARGEST} bytes")
    try:
        record = json.loads(content)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or not isinstance(record.get("run_id"), str):
        raise _refused(path, "expected a JSON object with run_id and tracking_uri")
    return record["run_id"] if record.get("tracking_uri") == tracking_uri else None


def write(directory: Path, tracking_uri: str, run_id: str) -> None:
    """Write the id of a directory's MLflow run, atomically."""
    path = directory / NAME
    temporary = directory / f".{NAME}.tmp"
    record = {"tracking_uri": tracking_uri, "run_id": run_id}
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(record, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(
            f"sink mlflow: {path} cannot be written ({error.strerror}); choose another "
            "training.output_dir, or leave the sink out of log.sinks"
        ) from None


def _refused(path: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"sink mlflow: {path} does not tell the MLflow run to go on with ({reason}); delete it to "
        "begin a new one"
    )

"""Which MLflow run a run directory belongs to, as a small file in it."""

from __future__ import annotations

from pathlib import Path

from tisslm.contracts.sink_files import read_record, write_record

__all__ = ["NAME", "read", "write"]

NAME = "mlflow.json"


def read(directory: Path, tracking_uri: str) -> str | None:
    """Return the id of a directory's MLflow run, None if it has none on this server.

    Raises
    ------
    ConfigError
        If the file exists and cannot be read.
    """
    record = read_record("mlflow", directory / NAME, ("run_id", "tracking_uri"))
    if record is None or record["tracking_uri"] != tracking_uri:
        return None
    return str(record["run_id"])


def write(directory: Path, tracking_uri: str, run_id: str) -> None:
    """Remember the run of a directory.

    Raises
    ------
    ConfigError
        If the file cannot be written.
    """
    write_record("mlflow", directory / NAME, {"tracking_uri": tracking_uri, "run_id": run_id})

"""Files of steps that were not applied: written, read within limits, and set aside."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from tisslm.errors import DataError, TissLMError
from tisslm.system.durable import replacing
from tisslm.system.safe_files import Refusal
from tisslm.system.strict_json import plain_number, read_json
from tisslm.training.refusals.incidents import Incident

__all__ = ["NOT_ONE", "read_file", "set_aside", "write_file"]

#: Bytes and values of a file that has the arrays of a step.
LARGEST, MOST_VALUES = 2**28, 2**25
NOT_ONE = Refusal(
    DataError,
    "not the file of a step that was not applied",
    "give a nonfinite-step-N.json or spike-step-N.json of the run, or --step",
)


def write_file(incident: Incident, directory: Path) -> Path | None:
    """Write the file of an incident; return its path, None if that could not be done.

    Parameters
    ----------
    incident : Incident
    directory : Path
        The run directory; nothing is written where there is none.
    """
    path = directory / incident.file
    value = {
        **vars(incident),
        "loss": plain_number(incident.loss),
        "grad_norm": plain_number(incident.grad_norm),
        "finding": None if incident.finding is None else incident.finding.as_json(),
    }
    with contextlib.suppress(OSError):  # a full disk must not hide what happened
        with replacing(path) as file:
            file.write(f"{json.dumps(value, indent=1)}\n".encode())
        _drop_same(path)
        return path
    return None


def _drop_same(path: Path) -> None:
    """Delete the file that was set aside, where the batch has led to the same again."""
    aside = path.with_name(f"superseded-{path.name}")
    with contextlib.suppress(FileNotFoundError):
        if aside.read_bytes() == path.read_bytes():
            aside.unlink()


def set_aside(directory: Path, position: int) -> None:
    """Rename the files of batches that a run which begins at a position takes again.

    ``nonfinite-step-N.json`` becomes ``superseded-nonfinite-step-N.json``, as later checkpoints
    do: a replay must not leave out what the run has made after all.

    Parameters
    ----------
    directory : Path
        The run directory.
    position : int
        Number of the next batch; files that cannot be read are left alone.
    """
    for path in [*directory.glob("nonfinite-step-*.json"), *directory.glob("spike-step-*.json")]:
        with contextlib.suppress(OSError, TissLMError):
            found = read_file(path).get("position")
            if isinstance(found, int) and found >= position:
                path.replace(path.with_name(f"superseded-{path.name}"))


def read_file(path: Path) -> dict[str, Any]:
    """Read the file of a step that was not applied, within limits.

    Raises
    ------
    DataError
        If it is no JSON object of a size that such a file may have.
    """
    return read_json(path, LARGEST, NOT_ONE, max_values=MOST_VALUES)

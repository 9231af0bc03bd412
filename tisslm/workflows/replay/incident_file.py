"""Reading the file of a step that was not applied.

It is written in ``tisslm.training.refusals.incidents``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Rows
from tisslm.contracts.rows import IDS
from tisslm.errors import TissLMError
from tisslm.system.safe_files import show
from tisslm.system.strict_json import read_number
from tisslm.training.refusals.incident_files import NOT_ONE, read_file

__all__ = ["RecordedIncident", "incident_files", "known_incidents", "read_incident"]

#: Types of an array's values in JSON, by the type of the array; words stand for what is not finite.
LEAVES: dict[type[np.generic], set[type]] = {
    np.bool_: {bool},
    np.int64: {int},
    np.float64: {int, float, str},
}

_NAME = re.compile(r"(?:nonfinite|spike)-step-(\d{1,18})(?:-(\d{1,9}))?\.json")


@dataclass(frozen=True)
class RecordedIncident:
    """A step that was not applied, as recorded by the run.

    Attributes
    ----------
    kind : {"nonfinite", "spike"}
    step, position : int
    loss, grad_norm : float
    arrays : Rows or None
        What the step was made of, if that was not the dataset's; integers are int64, other numbers
        float64.
    finding : mapping or None
        The result of the search for the failing operation, as in the file.
    expected : tuple of float
        Loss and gradient norm that a replay should have: those of the second pass, if the fault did
        not occur in it.
    """

    kind: str
    step: int
    position: int
    loss: float
    grad_norm: float
    arrays: Rows | None
    finding: Mapping[str, Any] | None
    expected: tuple[float, float]

    @property
    def recurs(self) -> bool | None:
        """True if the step failed again when it was repeated at once; None if unknown."""
        found = None if self.finding is None else self.finding.get("recurs")
        return found if isinstance(found, bool) else None


def incident_files(run: Path) -> list[Path]:
    """Return the files of the steps that a run did not apply, by ascending step."""
    named = [(_NAME.fullmatch(path.name), path) for path in run.glob("*-step-*.json")]
    found = [(int(m[1]), int(m[2] or 1), path) for m, path in named if m]
    return [path for _, _, path in sorted(found)]


def read_incident(path: Path) -> RecordedIncident:
    """Read the file of a step that was not applied.

    Raises
    ------
    DataError
        If it cannot be read, or is no such file.
    """
    value = read_file(path)
    if value.get("kind") not in ("nonfinite", "spike"):
        raise NOT_ONE(path, 'expected kind "nonfinite" or "spike"')
    for name in ("step", "position"):
        if type(value.get(name)) is not int or not 0 <= value[name] < 2**63:
            raise NOT_ONE(path, f"expected {name}, an integer >= 0")
    finding, arrays = value.get("finding"), value.get("arrays")
    finding = finding if isinstance(finding, dict) else None
    again = finding if finding is not None and finding.get("recurs") is False else value
    return RecordedIncident(
        kind=value["kind"],
        step=value["step"],
        position=value["position"],
        loss=_number(path, value, "loss"),
        grad_norm=_number(path, value, "grad_norm"),
        arrays=None if arrays is None else _arrays(path, arrays),
        finding=finding,
        expected=(_number(path, again, "loss"), _number(path, again, "grad_norm")),
    )


def known_incidents(run: Path) -> list[RecordedIncident]:
    """Read all files of steps that were not applied; unreadable ones are left out."""
    found = []
    for path in incident_files(run):
        try:
            found.append(read_incident(path))
        except TissLMError:
            continue
    return found


def _number(path: Path, value: Mapping[str, Any], name: str) -> float:
    found = read_number(value.get(name))
    if found is None:
        raise NOT_ONE(path, f"expected {name}, a number")
    return found


def _arrays(path: Path, value: Any) -> Rows:
    if not isinstance(value, dict) or not {"x", "y"} <= value.keys():
        raise NOT_ONE(path, "expected arrays x and y of one shape (B, T)")
    try:
        ids = {name: np.array(value[name], dtype=np.int64) for name in IDS if name in value}
    except (TypeError, ValueError, OverflowError):
        raise NOT_ONE(path, "expected arrays of integers") from None
    shapes = {array.shape for array in ids.values()}
    if len(shapes) != 1 or ids["x"].ndim != 2:
        raise NOT_ONE(path, "expected arrays x and y of one shape (B, T)")
    others = {name: _other(path, name, value[name]) for name in value if name not in IDS}
    if any(array.shape[:1] != ids["x"].shape[:1] for array in others.values()):
        raise NOT_ONE(path, f"expected arrays of {len(ids['x'])} rows, as x has")
    return Rows.of({**ids, **others})


def _other(path: Path, name: str, value: Any) -> NDArray[Any]:
    """Return an array of a dataset's own, of the type that its values tell."""
    found = {type(leaf) for leaf in np.array(value, dtype=object).ravel()}
    for dtype, kinds in LEAVES.items():
        if found <= kinds:
            with suppress(ValueError, OverflowError):
                return np.array(value, dtype=dtype)
    raise NOT_ONE(path, f"expected numbers in the array {show(name)}")

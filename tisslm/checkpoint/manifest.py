"""The manifest of a checkpoint: its files, their sizes and SHA-256, and the metrics of its step.

It is the last file that is written, and has a checksum of its own, so a directory with a valid
manifest was written to the end. The text is a function of the values: a manifest with the same
values in other characters counts as damaged.

Whether the files agree with it is checked in ``verification``.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tisslm.checkpoint.files import ADAPTER, FILES, MODEL
from tisslm.errors import CheckpointError, TissLMError
from tisslm.system.durable import FileRecord
from tisslm.system.safe_files import CHECKPOINT, Refusal, RegularFile, show
from tisslm.system.strict_json import parse_json

__all__ = [
    "MANIFEST",
    "Damage",
    "DamagedError",
    "Manifest",
    "Problem",
    "has_manifest",
    "read_manifest",
    "render",
]

_EXPECTED_GOT = re.compile(r"expected (.+?), got (.+)", re.DOTALL)


@dataclass(frozen=True)
class Problem:
    """What is wrong with one file."""

    file: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.file}: expected {self.expected}, got {self.got}"


class DamagedError(CheckpointError):
    """A checkpoint that does not verify.

    Parameters
    ----------
    folder : Path
    problem : Problem
    """

    def __init__(self, folder: Path, problem: Problem) -> None:
        self.folder, self.problem = folder, problem
        super().__init__(
            f"{folder / problem.file}: the checkpoint is damaged or incomplete (expected "
            f"{problem.expected}, got {problem.got}); use an earlier one"
        )


@dataclass(frozen=True)
class Damage(Refusal):
    """A factory of exceptions that report a file as damage of its checkpoint.

    Attributes
    ----------
    what : str
        What the file was expected to be, for reasons that do not say.
    """

    error: type[TissLMError] = DamagedError
    verdict: str = CHECKPOINT.verdict
    advice: str = CHECKPOINT.advice
    what: str = "a file"

    def __call__(self, path: str | os.PathLike[str], reason: object) -> DamagedError:
        """Return the exception for a file and a reason."""
        folder, name = Path(path).parent, Path(path).name
        match = _EXPECTED_GOT.fullmatch(str(reason))
        expected, got = match.groups() if match else (self.what, f"one that fails: {reason}")
        return DamagedError(folder, Problem(name, expected, got))


MANIFEST = "manifest.json"
FORMAT = "tisslm checkpoint"
VERSION = 1
#: The files that every checkpoint has, beside its model or the adapters of one.
REQUIRED = tuple(sorted(file.name for file in FILES if file.required))
LARGEST = 2**20  # bytes of a manifest: it has some ten lines
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BITS_OF_A_SIZE = 63
_MAX_VALUES, _MAX_DEPTH = 2**15, 4
_DAMAGE = Damage(what="a manifest")


@dataclass(frozen=True)
class Manifest:
    """The contents of a manifest.

    Attributes
    ----------
    step : int
    files : dict of str to FileRecord
        Every file except the manifest itself, by name.
    metrics : dict of str to float
        Finite values measured at this step, such as "eval/loss".
    """

    step: int
    files: Mapping[str, FileRecord]
    metrics: Mapping[str, float] = field(default_factory=dict)


def render(manifest: Manifest) -> bytes:
    """Return the text of a manifest."""
    body: dict[str, Any] = {
        "format": FORMAT,
        "format_version": VERSION,
        "step": manifest.step,
        "metrics": {name: manifest.metrics[name] for name in sorted(manifest.metrics)},
        "files": {
            name: {"size": manifest.files[name].size, "sha256": manifest.files[name].sha256}
            for name in sorted(manifest.files)
        },
    }
    return _text(body | {"checksum": hashlib.sha256(_text(body)).hexdigest()})


def _text(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1, allow_nan=False).encode("ascii") + b"\n"


def has_manifest(folder: Path) -> bool:
    """Return True if a directory has a valid manifest; the other files are not looked at."""
    try:
        read_manifest(folder)
    except DamagedError:
        return False
    return True


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a checkpoint.

    Raises
    ------
    DamagedError
        If there is no manifest, or it is not valid.
    """
    path = folder / MANIFEST
    if not os.path.lexists(path):
        raise _bad(folder, "a manifest", _none_of(folder))
    with RegularFile(path, _DAMAGE) as file:
        content = file.read(LARGEST)
    value = parse_json(content, path, _DAMAGE, max_values=_MAX_VALUES, max_depth=_MAX_DEPTH)
    _check_version(folder, value)
    try:
        manifest = _from_json(value)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _bad(folder, "a manifest", f"another JSON value ({error!r:.80})") from None
    if render(manifest) != content:
        raise _bad(folder, "a manifest that fits its checksum", "one that was changed")
    return manifest


def _none_of(folder: Path) -> str:
    if not os.path.isdir(folder):
        return "no directory"
    if any(os.path.exists(folder / name) for name in (*REQUIRED, MODEL.name)):
        return "none: it was not written or copied to the end, or by a version without manifests"
    return "none"


def _bad(folder: Path, expected: str, got: str) -> DamagedError:
    return DamagedError(folder, Problem(MANIFEST, expected, got))


def _check_version(folder: Path, value: Mapping[str, Any]) -> None:
    """Raise an error for a later format, before its unknown keys are taken for damage."""
    version = value.get("format_version")
    if value.get("format") == FORMAT and type(version) is int and version != VERSION:
        got = show(version).strip("'") + (", of a newer TissLM" if version > VERSION else "")
        raise _bad(folder, f"format version {VERSION}", got)


def _from_json(value: Mapping[str, Any]) -> Manifest:
    """Build a manifest from JSON; wrong values raise ``ValueError`` or Python's own errors."""
    files = {str(name): _record(name, record) for name, record in value["files"].items()}
    whole = () if ADAPTER.name in files else (MODEL.name,)
    missing = [name for name in sorted((*REQUIRED, *whole)) if name not in files]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    metrics = {str(name): number for name, number in value["metrics"].items()}
    if not all(type(n) in (int, float) and math.isfinite(n) for n in metrics.values()):
        raise ValueError("metrics that are no numbers")
    return Manifest(_whole(value["step"]), files, metrics)


def _record(name: str, value: Any) -> FileRecord:
    if not _FILE_NAME.fullmatch(name) or name == MANIFEST:
        raise ValueError(f"a file called {name[:40]!r}")
    if not isinstance(value["sha256"], str) or not _SHA256.fullmatch(value["sha256"]):
        raise ValueError(f"no SHA-256 for {name}")
    return FileRecord(_whole(value["size"]), value["sha256"])


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**_BITS_OF_A_SIZE:
        raise ValueError("a number that is no size")
    return value

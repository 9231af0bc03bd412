"""The manifest: which files a checkpoint has, their sizes and SHA-256, and what was measured there.

It is the last file that is written, and has a checksum of its own, so a directory with a valid
manifest was written to the end. The text is a function of the values: a manifest that says the same
in other characters is damaged, too.

What does not live here: whether the files are as it says (``verification``).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tisslm.errors import CheckpointError

__all__ = [
    "MANIFEST",
    "DamagedError",
    "FileRecord",
    "Manifest",
    "Problem",
    "has_manifest",
    "open_regular",
    "read_manifest",
    "render",
]

MANIFEST = "manifest.json"
FORMAT = "tisslm checkpoint"
VERSION = 1

#: The files that every checkpoint has.
REQUIRED = (
    "config.json",
    "model.safetensors",
    "optimizer.safetensors",
    "trainer.safetensors",
    "trainer_state.json",
)

LARGEST = 2**20  # bytes of a manifest: it has some ten lines
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BITS_OF_A_SIZE = 63


@dataclass(frozen=True)
class FileRecord:
    """What a file must be: ``size`` in bytes, and its ``sha256`` in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint says of itself.

    Attributes
    ----------
    step : int
    files : dict of str to FileRecord
        Every file but the manifest.
    metrics : dict of str to float
        Finite values measured at this step, such as "eval/loss".
    """

    step: int
    files: Mapping[str, FileRecord]
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """What is wrong with one file, in words."""

    file: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.file}: expected {self.expected}, got {self.got}"


class DamagedError(CheckpointError):
    """A directory that does not verify.

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


# --------------------------------------------------------------------------- reading


def open_regular(path: Path) -> int:
    """Open a plain file for reading and return its handle: no link, and nothing that waits.

    Raises
    ------
    OSError
        If it cannot be opened.
    ValueError
        If it is no plain file; the message says what it is.
    """
    if path.is_symlink():
        raise ValueError("a symbolic link")
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    handle = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError("something that is no file")
    return handle


def has_manifest(folder: Path) -> bool:
    """Tell whether a directory has a manifest that can be used; the files are not looked at."""
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
        If there is none, or none that can be used.
    """
    try:
        content = _read_limited(folder / MANIFEST)
    except FileNotFoundError:
        raise _bad(folder, "a manifest", _none_of(folder)) from None
    except (OSError, ValueError) as error:
        got = (error.strerror or "an error") if isinstance(error, OSError) else str(error)
        raise _bad(folder, "a file that can be read", got) from error
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise _bad(folder, "a manifest", "a file that is no JSON") from None
    _check_version(folder, value)
    try:
        manifest = _from_json(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _bad(folder, "a manifest", f"another JSON value ({error!r:.80})") from None
    if render(manifest) != content:
        raise _bad(folder, "a manifest that fits its checksum", "one that was changed")
    return manifest


def _read_limited(path: Path) -> bytes:
    with open(open_regular(path), "rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"one of more than {LARGEST} bytes")
    return content


def _none_of(folder: Path) -> str:
    if not os.path.isdir(folder):
        return "no directory"
    if any(os.path.exists(folder / name) for name in REQUIRED):
        return "none: it was not written or copied to the end, or by a version without manifests"
    return "none"


def _bad(folder: Path, expected: str, got: str) -> DamagedError:
    return DamagedError(folder, Problem(MANIFEST, expected, got))


def _check_version(folder: Path, value: Any) -> None:
    """Name a later format, before its keys are taken for damage."""
    version = value.get("format_version") if isinstance(value, dict) else None
    known = isinstance(value, dict) and value.get("format") == FORMAT
    if known and isinstance(version, int) and version != VERSION:
        got = f"{version:.6g}, of a newer TissLM" if version > VERSION else f"{version:.6g}"
        raise _bad(folder, f"format version {VERSION}", got)


def _from_json(value: Any) -> Manifest:
    """Take a manifest apart; what it cannot be is a ``ValueError`` or what Python raises."""
    files = {str(name): _record(name, record) for name, record in value["files"].items()}
    missing = [name for name in REQUIRED if name not in files]
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

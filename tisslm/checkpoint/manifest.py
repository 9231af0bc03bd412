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
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tisslm.checkpoint.damage import Damage, DamagedError, Problem
from tisslm.checkpoint.files import FILES
from tisslm.system.durable import FileRecord
from tisslm.system.safe_files import RegularFile, show
from tisslm.system.strict_json import parse_json

__all__ = [
    "MANIFEST",
    "Manifest",
    "has_manifest",
    "read_manifest",
    "render",
]

MANIFEST = "manifest.json"
FORMAT = "tisslm checkpoint"
VERSION = 1

#: The files that every checkpoint has.
REQUIRED = tuple(sorted(file.name for file in FILES if file.required))

LARGEST = 2**20  # bytes of a manifest: it has some ten lines
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BITS_OF_A_SIZE = 63
_MAX_VALUES, _MAX_DEPTH = 2**15, 4
_DAMAGE = Damage(what="a manifest")


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
    if any(os.path.exists(folder / name) for name in REQUIRED):
        return "none: it was not written or copied to the end, or by a version without manifests"
    return "none"


def _bad(folder: Path, expected: str, got: str) -> DamagedError:
    return DamagedError(folder, Problem(MANIFEST, expected, got))


def _check_version(folder: Path, value: Mapping[str, Any]) -> None:
    """Name a later format, before its keys are taken for damage."""
    version = value.get("format_version")
    if value.get("format") == FORMAT and type(version) is int and version != VERSION:
        got = show(version).strip("'") + (", of a newer TissLM" if version > VERSION else "")
        raise _bad(folder, f"format version {VERSION}", got)


def _from_json(value: Mapping[str, Any]) -> Manifest:
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

"""``tisslm verify``: compare the files of checkpoints or token shards with their checksums.

They are compared in ``tisslm.checkpoint.verification`` and ``tisslm.datasets.shard_checks``.
"""

from __future__ import annotations

from collections.abc import Mapping
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from tisslm import checkpoint
from tisslm.cli._terminal import NUMBER, TEXT, say, show_table
from tisslm.datasets.shard_checks import verify_shards
from tisslm.datasets.shard_format import read_manifest
from tisslm.datasets.shards import is_shards
from tisslm.errors import CheckpointError
from tisslm.system.quantities import size_text
from tisslm.system.safe_files import show

__all__ = ["verify"]


def verify(
    path: Annotated[
        Path, typer.Argument(metavar="RUN|RUN/best|CHECKPOINT|SHARDS", show_default=False)
    ],
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list of objects.")] = False,
) -> None:
    """Compare every file of a run's checkpoints, of one, or of shards, with its size and SHA-256.

    The exit code is 1 if anything is damaged. Files that are not in a checkpoint's manifest are
    named, but are no damage, because they are never read.
    """
    if is_shards(path):
        rows, kind = [_shards_row(path)], "shards"
    else:
        rows, kind = [_row(folder) for folder in _checkpoints(path)], "checkpoint"
    if json:
        say(dumps(rows, indent=2))
    else:
        _print(rows, kind)
    if not all(row["ok"] for row in rows):
        raise typer.Exit(1)


def _checkpoints(path: Path) -> list[Path]:
    try:
        return checkpoint.directories(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error}, or a folder of token shards") from error


def _row(folder: Path) -> dict[str, Any]:
    """Describe one checkpoint; without a manifest, its files and step are not known."""
    problems = checkpoint.problems(folder)
    try:
        manifest = checkpoint.read_manifest(folder)
    except CheckpointError:
        step, files, size, more = None, None, None, []
    else:
        step, files = manifest.step, len(manifest.files)
        size = sum(record.size for record in manifest.files.values())
        more = checkpoint.unlisted(folder, manifest)
    return {
        "checkpoint": str(folder),
        "step": step,
        "files": files,
        "bytes": size,
        "ok": not problems,
        "problems": [
            {"file": problem.file, "expected": problem.expected, "got": problem.got}
            for problem in problems
        ],
        "not_in_manifest": more,
    }


def _shards_row(folder: Path) -> dict[str, Any]:
    """Describe a folder of token shards."""
    files = read_manifest(folder).files
    return {
        "shards": str(folder),
        "files": len(files),
        "bytes": sum(record.bytes for record in files.values()),
        "ok": not (problems := [found for found in verify_shards(folder) if found[1]]),
        "problems": [
            {
                "file": name,
                "expected": f"{files[name].bytes} bytes of SHA-256 {files[name].sha256}",
                "got": problem,
            }
            for name, problem in problems
        ],
    }


def _print(rows: list[dict[str, Any]], kind: str) -> None:
    columns = {kind: TEXT, "files": NUMBER, "size": NUMBER, "state": TEXT}
    show_table(columns, (_cells(row, kind) for row in rows))


def _cells(row: Mapping[str, Any], kind: str) -> list[str]:
    words = [_words(problem, kind) for problem in row["problems"]]
    return [
        row[kind],
        "" if row["files"] is None else str(row["files"]),
        "" if row["bytes"] is None else size_text(row["bytes"]),
        "\n".join([*(words or ["ok"]), *_not_in_manifest(row)]),
    ]


def _not_in_manifest(row: Mapping[str, Any]) -> list[str]:
    return [f"{show(name)} is not in the manifest" for name in row.get("not_in_manifest", [])]


def _words(problem: Mapping[str, str], kind: str) -> str:
    """Return a problem in words; a problem of shards already says what was expected."""
    if kind == "shards":
        return f"{problem['file']}: {problem['got']}"
    return f"{problem['file']}: expected {problem['expected']}, got {problem['got']}"

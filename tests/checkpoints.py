"""Checkpoints that a test has changed by hand, made to verify again."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tisslm.checkpoint.manifest import MANIFEST, FileRecord, Manifest, read_manifest, render


def reseal(folder: Path) -> None:
    """Write the manifest that fits what the files are now."""
    before = read_manifest(folder)
    files = {
        path.name: FileRecord(path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.iterdir()
        if path.name != MANIFEST
    }
    (folder / MANIFEST).write_bytes(render(Manifest(before.step, files, before.metrics)))

"""The optimizers by name, installed or not; the number of threads, put back after a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tisslm import ops


@pytest.fixture
def threads() -> Iterator[Callable[[int], object]]:
    """Set the number of threads; what was chosen before comes back."""
    before = ops.thread_count().count
    yield ops.set_threads
    ops.set_threads(before)


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the registry find the plugin where it is not installed, too."""
    info = tmp_path / "site" / "tisslm_optimizers-0.1.0.dist-info"
    info.mkdir(parents=True)
    text = "Metadata-Version: 2.1\nName: tisslm-optimizers\nVersion: 0.1.0\n"
    (info / "METADATA").write_text(text)
    (info / "entry_points.txt").write_text("[tisslm]\noptimizers = tisslm_optimizers\n")
    monkeypatch.syspath_prepend(str(info.parent))

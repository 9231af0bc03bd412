"""A run with three checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
from crash.saver import tiny

from tisslm import checkpoint


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with the checkpoints 1, 2 and 10."""
    for step in (1, 2, 10):
        checkpoint.write(tmp_path / "run" / "checkpoints", step, tiny(float(step)))
    return tmp_path / "run"

"""A disk that is really full: a file system of 64 KiB."""

from __future__ import annotations

import errno
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from crash import saver
from crash.test_system_calls import value_of

from tisslm import checkpoint
from tisslm.errors import CheckpointError


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("there is no mount command")
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_leaves_the_old_checkpoint_and_nothing_else(small_disk):
    checkpoint.write(small_disk, 1, saver.tiny(1.0))
    before = {path: path.read_bytes() for path in small_disk.rglob("*") if path.is_file()}
    large = saver.tiny(2.0)
    large[checkpoint.MODEL]["large"] = np.zeros(2**15, np.float32)
    for step in (1, 2):
        with pytest.raises(CheckpointError) as error:
            checkpoint.write(small_disk, step, large)
        assert str(error.value) == (
            f"{small_disk}/checkpoint-{step}: the checkpoint could not be written ([Errno 28] No "
            "space left on device); earlier checkpoints are untouched. Free space or choose "
            "another output_dir"
        )
        assert isinstance(error.value.__cause__, OSError)
        assert error.value.__cause__.errno == errno.ENOSPC
        after = {path: path.read_bytes() for path in small_disk.rglob("*") if path.is_file()}
        assert after == before
    checkpoint.write(small_disk, 2, saver.tiny(2.0))
    assert value_of(small_disk) == 2.0

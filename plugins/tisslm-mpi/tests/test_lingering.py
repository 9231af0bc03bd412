"""A launcher that goes on after its job is ended, one that ends is left alone."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys

import pytest

#: Starts what a rank does at its end, and waits as a launcher does, or ends in time.
RANK = "from tisslm_mpi.lingering import end_lingering_launcher as end; end({grace})"


@pytest.mark.parametrize(
    ("name", "starter", "grace", "code"),
    [
        ("prterun", "", 0.2, -signal.SIGKILL),
        ("prterun", "", 60, 7),
        ("prted", "", 0.2, 7),
        ("prted", "prterun-node1-17@0", 0.2, -signal.SIGKILL),
        ("prted", "prte-node1-17@0", 0.2, 7),  # which serves one job after the other
        ("sh", "prterun-node1-17@0", 0.2, 7),
    ],
)
def test_a_launcher_that_lingers_is_killed_and_nobody_else(tmp_path, name, starter, grace, code):
    launcher = tmp_path / name
    shutil.copy("/bin/sh", launcher)
    wait = 60 if code < 0 else 1.5
    line = f'"$0" -c "$1"; sleep {wait} & wait; exit 7'
    started = subprocess.run(
        [
            launcher,
            "-c",
            line,
            sys.executable,
            RANK.format(grace=grace),
            "ess_base_nspace",
            starter,
        ],
        check=False,
        timeout=50,
    )
    assert started.returncode == code

"""A start that is killed at every one of its calls before the first checkpoint, and made again.

What the run then leaves are the files of a run that was left alone, and no others. Left out are
calls that change no file: a kill there finds the disk as at the next that does.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash import starter
from crash.test_system_calls import STRACE, Server
from interruptions import differences

SCRIPT = Path(starter.__file__)

#: Calls that change what is on the disk; an open does where it may make or empty a file.
CHANGING = {"write", "fsync", "rename", "mkdir", "unlink", "ftruncate", "flock", "utimensat"}
OPENING = re.compile("O_CREAT|O_TRUNC")


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def server(quick: Path) -> Iterator[Server]:
    if STRACE is None:
        pytest.skip("strace is not installed (Debian: apt-get install strace)")
    server = Server(SCRIPT, str(quick / "whole"))
    yield server
    server.close()


def calls(server: Server, folder: Path, trace: Path) -> list[tuple[str, int]]:
    """Return the calls from the first that names the folder to the first for a checkpoint."""
    assert server.traced("--", folder, "-o", str(trace)) == 0
    found, seen, touched = [], Counter[str](), False
    for line in trace.read_text().splitlines():
        if ".tmp-checkpoint" in line:
            return found
        if match := re.match(r"(\w+)\(", line):
            seen[match[1]] += 1
            touched = touched or str(folder) in line
            if touched and (match[1] in CHANGING or OPENING.search(line)):
                found.append((match[1], seen[match[1]]))
    raise AssertionError("there was no checkpoint")


def test_a_start_that_is_killed_leaves_nothing_behind(server: Server, quick: Path) -> None:
    folder, whole = quick / "run", quick / "whole"
    places = calls(server, folder, quick / "trace")
    assert {"write", "openat", "rename", "fsync"} <= {kind for kind, _ in places}
    lines = 0
    for kind, n in places:
        shutil.rmtree(folder, ignore_errors=True)
        inject = ("-o", os.devnull, "-e", f"trace={kind}")
        status = server.traced("--", folder, *inject, "-e", f"inject={kind}:signal=KILL:when={n}")
        assert status == signal.SIGKILL, (kind, n, status)
        metrics = folder / "metrics.jsonl"
        lines += metrics.exists() and metrics.stat().st_size > 0
        assert server.traced("--", folder, "-o", os.devnull) == 0
        assert listing(folder) == listing(whole), f"killed at {kind} {n}"
        assert differences(whole, folder) == [], f"killed at {kind} {n}"
    assert lines > 3  # kills after the first line of metrics

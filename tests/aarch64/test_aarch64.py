"""`make test-aarch64` on a machine that lacks what it needs says so in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
#: By the tools that a machine has: what `make test-aarch64` says.
SENTENCES = {
    (): (
        "make test-aarch64: there is no aarch64-linux-gnu-gcc and no qemu-aarch64 and no apt-get "
        "and no dpkg; on Debian: apt-get install gcc-aarch64-linux-gnu "
        "libc6-dev-arm64-cross qemu-user apt dpkg\n"
    ),
    ("aarch64-linux-gnu-gcc", "apt-get", "dpkg"): (
        "make test-aarch64: there is no qemu-aarch64; on Debian: apt-get install qemu-user\n"
    ),
    ("aarch64-linux-gnu-gcc", "qemu-aarch64", "dpkg", "apt-get"): (
        "make test-aarch64: apt-get could not bring a Python {version} of AArch64 and its "
        "packages; it says why above\n"
    ),
}


@pytest.mark.parametrize("tools", SENTENCES)
def test_what_is_missing_is_said_in_one_sentence(tmp_path: Path, tools: tuple[str, ...]) -> None:
    for tool in tools:
        (tmp_path / tool).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / tool).chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "aarch64", "--folder", str(tmp_path / "python")],
        env={**os.environ, "PATH": str(tmp_path), "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
    )
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    said = SENTENCES[tools].format(version=version)
    assert (done.returncode, done.stderr) == (1, said)

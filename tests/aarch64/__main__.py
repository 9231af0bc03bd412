"""``make test-aarch64``: the kernels' tests on an AArch64 processor, which is emulated.

Debian's cross compiler builds the package, and qemu's user mode runs it under Debian's Python of
that architecture with wheels of PyPI. These are fetched once, into a folder outside the tree, by
``apt-get`` and ``pip`` as any user may call them; nothing is installed on the machine.

A process that is emulated starts none itself, so every level is a run of its own. It takes long,
and its log in ``build/aarch64`` tells how far it is. Arrays beyond 2^31 elements are left out:
indices have the same types at every level.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aarch64 import building, machine

TESTS = ["tests/kernels", "--ignore=tests/kernels/test_beyond_32_bits.py"]
LEVELS = ["baseline", "neon", "neon_bf16"]


def main() -> int:
    """Return 0 if every level passes, else 1."""
    parser = argparse.ArgumentParser(prog="aarch64", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="of Python and its packages")
    parser.add_argument("--levels", default=",".join(LEVELS), help="with commas between")
    parser.add_argument("--jobs", type=int, default=2, help="levels at one time")
    parser.add_argument("pytest", nargs="*", help=f"arguments of pytest in place of {TESTS}")
    given = parser.parse_args()
    missing = machine.missing(given.folder)
    if missing:
        sys.exit(f"make test-aarch64: {missing}")
    try:
        machine.fetch(given.folder)
    except subprocess.CalledProcessError as error:
        what = f"a Python {machine.VERSION} of AArch64 and its packages"
        sys.exit(f"make test-aarch64: {error.cmd[0]} could not bring {what}; it says why above")
    package = building.build(given.folder)

    def run(level: str) -> bool:
        environment = {**os.environ, **machine.environment(given.folder, package)}
        command = [*machine.python(given.folder), "-m", "pytest", *(given.pytest or TESTS)]
        log = package.parent / f"{level}.log"
        print(f"--- {level}: on its way in {log}", flush=True)
        with log.open("w") as output:
            done = subprocess.run(
                [*command, "-v", "--no-header", "-p", "no:cacheprovider"],
                cwd=building.ROOT,
                env={**environment, "TISSLM_ISA": level},
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        print(f"--- {level}\n{_told(log.read_text(errors='replace'))}", flush=True)
        return done.returncode == 0

    with ThreadPoolExecutor(given.jobs) as pool:
        return 0 if all(list(pool.map(run, given.levels.split(",")))) else 1


def _told(output: str) -> str:
    """Leave out the lines of tests that have passed, which were for whoever waits."""
    return "\n".join(line for line in output.splitlines() if " PASSED " not in line)


if __name__ == "__main__":
    sys.exit(main())

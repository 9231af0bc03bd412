"""Make ``golden.json`` anew: what the runs of ``runs.py`` come to at each level of this machine.

    python tests/golden_bits/make_golden.py

Only where bits are meant to change; the commit says why. ``checkpoint-5`` is one that an earlier
version wrote, and stays: what has to go on from it are later versions. ``--checkpoint`` writes it
anew, for a version that refuses the old one on purpose.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
GOLDEN = HERE / "golden.json"


def levels() -> list[str]:
    """Return the levels that this processor has."""
    from tisslm._kernels import isa

    return list(isa.available())


def processor() -> str:
    """Return what the processor calls itself."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def run(level: str) -> dict[str, object]:
    """Make the runs in a process of their own, at a level."""
    done = subprocess.run(
        [sys.executable, str(HERE / "runs.py")],
        env={**os.environ, "TISSLM_ISA": level, "TISSLM_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{level}: {done.stderr}")
    found: dict[str, object] = json.loads(done.stdout)
    return found


def write_checkpoint() -> None:
    """Write the checkpoint that later versions go on from."""
    sys.path.insert(0, str(HERE))
    from runs import OLD_CHECKPOINT, SAVED, tiny_run

    with tempfile.TemporaryDirectory() as folder:
        trainer = tiny_run(Path(folder) / "run", save_every=SAVED, keep_checkpoints=9)
        trainer.train()
        shutil.rmtree(OLD_CHECKPOINT, ignore_errors=True)
        shutil.copytree(trainer.run.checkpoints / OLD_CHECKPOINT.name, OLD_CHECKPOINT)


def main() -> None:
    """Write the files next to this one."""
    if "--checkpoint" in sys.argv[1:]:
        write_checkpoint()
    found = {
        "made_with": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "processor": processor(),
        },
        "levels": {level: run(level) for level in levels()},
    }
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""No bit of a result changes unless it is meant to: runs come to what they came to before.

Above ``baseline``, the products, exponentials and sums of a level are our own kernels, which no
machine reorders, so its bits should be those of every processor that has the level; what they were
made with stands in ``golden.json``, and nobody has compared many. Those of ``baseline`` are the
BLAS library's, and are compared where its build and the core that it was made for are the same.
First values come from NumPy's generator and schedules from the C library: if ``first`` differs,
look there, and not at the passes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

isa = pytest.importorskip("tisslm._kernels.isa", reason="kernels are not built")

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE / "golden.json").read_text("utf-8"))["levels"]

pytestmark = pytest.mark.skipif(
    os.environ.get("TISSLM_OPS", "") != "", reason="the twins have other bits"
)


def levels() -> list[str]:
    asked = os.environ.get("TISSLM_ISA", "")
    return [asked] if asked else list(GOLDEN)


@pytest.mark.parametrize("level", levels())
def test_runs_have_the_bits_that_they_had(level):
    if level not in GOLDEN or level not in isa.available():
        pytest.skip(f"{level} is not known here, or not a level of this processor")
    done = subprocess.run(
        [sys.executable, str(HERE / "runs.py")],
        env={**os.environ, "TISSLM_ISA": level},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found, golden = json.loads(done.stdout), GOLDEN[level]
    if found["engine"] != golden["engine"]:
        pytest.skip(f"known is {golden['engine']}, and this is {found['engine']}")
    assert found.keys() == golden.keys()
    for name, was in golden.items():
        assert found[name] == was, f"{level}: {name}"

"""Every instruction-set level of the host passes the tests of the kernels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

isa = pytest.importorskip("tisslm._kernels.isa", reason="kernels are not built")
HERE = Path(__file__).parent
#: Indices have the same types at every level: vast arrays, half of the time, are of one alone.
ONE_LEVEL = f"--ignore={HERE / 'test_beyond_32_bits.py'}"


@pytest.mark.skipif(os.environ.get("TISSLM_ISA", "") != "", reason="one level was asked for")
@pytest.mark.parametrize("level", ["baseline", "neon", "avx2", "avx512"])
def test_kernels_at_a_lower_level(level):
    if level not in isa.available() or level == isa.name():
        pytest.skip(f"{level} is not a lower level of this processor")
    options = ["-q", "-x", "--import-mode=importlib", ONE_LEVEL]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(HERE)],
        cwd=HERE.parents[1],
        env={**os.environ, "TISSLM_ISA": level},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]

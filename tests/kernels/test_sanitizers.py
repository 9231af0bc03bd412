"""`make asan` can fail: a fault that is made on purpose ends the process with a report."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    os.environ.get("TISSLM_SANITIZE") != "1", reason="needs kernels that are built by `make asan`"
)

FAULTS = {
    # the gradient is one element too short
    "ERROR: AddressSanitizer": """
from tisslm._kernels.optim import sgd_update
p, g = np.zeros(4096, np.float32), np.zeros(4095, np.float32)
sgd_update(p, g, None, 0.1, 0.0, False, 0.0, False, 1.0, None, 1)
""",
    # the length of a sequence is 0
    "runtime error: division by zero": """
from tisslm._kernels.dropout import dropout_forward
x = np.zeros((4, 8), np.float32)
dropout_forward(x, x, 0, 0.5, 1, 1, 1, 0, 1)
""",
}


@pytest.mark.parametrize("report", FAULTS)
def test_a_fault_ends_the_process_with_a_report(report: str) -> None:
    command = [sys.executable, "-c", "import numpy as np" + FAULTS[report]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 99
    assert report in done.stderr

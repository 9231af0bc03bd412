"""Hostile files are opened in a process of their own, which is asked what it cost."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

#: Expressions that open what is at ``path``; imports are not part of what is measured.
OPENERS = {
    "arrays": ("from tisslm.tensor_files import TensorFile", "TensorFile(path)"),
    "checkpoint": ("from tisslm.loading import load_model", "load_model(path)"),
}

CHILD = """
import json, resource, signal, sys, time
from tisslm.errors import CheckpointError
{imports}
path = sys.argv[1]
signal.alarm(60)
before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
try:
    {call}
    message = "nothing was raised"
except CheckpointError as error:
    message = str(error)
seconds = time.process_time() - began
used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
print(json.dumps({{"message": message, "seconds": seconds, "memory": used}}))
"""


@dataclass(frozen=True)
class Outcome:
    """What the ``CheckpointError`` said, processor time, and resident bytes above the start."""

    message: str
    seconds: float
    memory: int


@pytest.fixture
def outcome() -> Callable[[Path, str], Outcome]:
    def run(path: Path, what: str) -> Outcome:
        imports, call = OPENERS[what]
        code = CHILD.format(imports=imports, call=call)
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return Outcome(**json.loads(done.stdout))

    return run

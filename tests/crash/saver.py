"""A process that saves a tiny checkpoint for each line it reads, in a child that can be traced.

Starting Python takes longer than a save, so it is started once. A child waits for SIGUSR1, saves,
and ends with 0, with 3 after a ``CheckpointError``, and with 1 after anything else.

Usage: saver.py REPOSITORY, then lines ``SCENARIO FOLDER`` on the standard input. For each, the
child's number is printed, and when it has ended, its status.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import traceback
from pathlib import Path

sys.dont_write_bytecode = True
if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])

import numpy as np  # noqa: E402

from tisslm import checkpoint  # noqa: E402
from tisslm.errors import CheckpointError  # noqa: E402

FAILED, UNEXPECTED = 3, 1
STEPS = {"next": 3, "replace": 2, "first": 1}
_SET_PTRACER, _ANY = 0x59616D61, -1


def tiny(value: float) -> checkpoint.Checkpoint:
    """Return a checkpoint that is told from others by one number."""
    files = {
        checkpoint.MODEL: {"w": np.full(40, value, np.float32)},
        checkpoint.CONFIG: {"n": 1},
        checkpoint.OPTIMIZER: {"w/m": np.full(40, -value, np.float32)},
        checkpoint.TRAINER: {"global_step": 1, "value": value},
        checkpoint.TRAINER_ARRAYS: {},
        **checkpoint.tokenizer_files({"name": "byte", "state": {}}),
    }
    return checkpoint.Checkpoint(files, metrics={"eval/loss": value})


def prepare(scenario: str, folder: Path) -> None:
    """Make what is there before the save: two older checkpoints, or nothing at all."""
    if scenario != "first":
        checkpoint.write(folder, 1, tiny(1.0))
        checkpoint.write(folder, 2, tiny(2.0))


def save(scenario: str, folder: Path) -> None:
    """Save as a run does, and delete the older one that is not kept."""
    step = STEPS[scenario]
    path = checkpoint.write(folder, step, tiny(3.0))
    checkpoint.prune(folder, checkpoint.Retention(newest=2 if step > 2 else 1), path)


def _child(scenario: str, folder: Path) -> int:
    with contextlib.suppress(OSError, AttributeError):  # where only a parent may trace
        ctypes.CDLL(None).prctl(_SET_PTRACER, ctypes.c_long(_ANY))
    signal.sigwait({signal.SIGUSR1})
    try:
        save(scenario, folder)
    except CheckpointError as error:
        _say(str(error))
        return FAILED
    except BaseException:
        _say(traceback.format_exc())
        return UNEXPECTED
    return 0


def _say(text: str) -> None:
    """Write to the standard error, unless writing is what is made to fail."""
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode())


def _serve() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    for line in sys.stdin:
        scenario, folder = line.rstrip("\n").split(" ", 1)
        pid = os.fork()
        if pid == 0:
            os._exit(_child(scenario, Path(folder)))
        print(pid, flush=True)
        print(os.waitpid(pid, 0)[1], flush=True)


if __name__ == "__main__":
    _serve()

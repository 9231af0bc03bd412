"""For all tests of the repository: no time limits, and surroundings that are the same everywhere.

A machine that is busy must not fail a test, and none is there to measure time. A shell that starts
the tests in the background makes them, and every process that they start, deaf to SIGINT. And what
a terminal, a CI or a batch system says of itself in the environment changes what the code under
test prints and writes, so a test that is about such a variable sets it.
"""

from __future__ import annotations

import os
import signal

from hypothesis import settings

settings.register_profile("tisslm", deadline=None)
settings.load_profile("tisslm")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_TERMINAL = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
_JOB = ("CI", "SLURM_JOB_ID", "SLURM_RESTART_COUNT", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
_LAUNCHER = (
    "OMPI_COMM_WORLD_RANK",
    "MV2_COMM_WORLD_RANK",
    "FLUX_TASK_RANK",
    "PMI_RANK",
    "PALS_RANKID",
    "SLURM_PROCID",
)
for name in (*_TERMINAL, *_JOB, *_LAUNCHER):
    os.environ.pop(name, None)
os.environ["TERM"] = "xterm"

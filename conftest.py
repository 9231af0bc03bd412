"""For all tests of the repository: no time limits, and surroundings that are the same everywhere.

A machine that is busy must not fail a test, and none is there to measure time. Whoever starts the
tests hands down to them, and to every process that they start, which signals are ignored or held
back (a shell in the background: SIGINT and SIGQUIT; ``nohup``: SIGHUP), the rights that new files
do not get, and how many may be open. And what a terminal, a CI or a batch system says of itself in
the environment changes what the code under test prints and writes, so a test that is about such a
variable sets it.

Two things are settled for the time that all of it takes. Hundreds of processes are started, and
what Python compiles for one is kept for the next, whatever the shell says. And threads that wait
for another sleep, and NumPy's products have one: several processes have the same cores, which
threads that ask without a pause would take from them.

``make test`` hands out its tests by ``tests/handing_out.py``.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("tisslm", deadline=None)
settings.load_profile("tisslm")

_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}  # ignored by the interpreter itself
_SHELL = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}  # between a shell and its terminal
for number in signal.valid_signals() - _PYTHON - _SHELL:
    if signal.getsignal(number) is signal.SIG_IGN:
        heard = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, heard)
signal.pthread_sigmask(signal.SIG_SETMASK, ())
os.umask(0o022)
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
files = 1024 if most == resource.RLIM_INFINITY else min(1024, most)
resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))

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
#: Of processes that a test starts, whose warnings it reads and whose modules it does not compile.
_PYTHON_SAYS = ("PYTHONWARNINGS", "PYTHONDONTWRITEBYTECODE")
for name in (*_TERMINAL, *_JOB, *_LAUNCHER, *_PYTHON_SAYS):
    os.environ.pop(name, None)
os.environ["TERM"] = "xterm"
os.environ |= {"OMP_WAIT_POLICY": "passive", "OPENBLAS_NUM_THREADS": "1"}
sys.dont_write_bytecode = False


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Answer ``--dist loadfile``; files are not sorted by how many tests they have."""
    if config.getvalue("dist") != "loadfile":
        return None
    from handing_out import Files

    config.option.loadscopereorder = False
    return Files(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the jobs of ranks, which take longest, so that no process ends with them alone."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    from handing_out import ONE_AT_A_TIME

    items.sort(key=lambda item: not item.nodeid.startswith(ONE_AT_A_TIME))

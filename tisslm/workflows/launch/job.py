"""One start of all ranks: the process that starts them, the signals that it gets, and its end."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tisslm.system.launched import FOLDER, Lender, Note, read_note
from tisslm.training.interruption import EXIT_CODE
from tisslm.workflows.launch.asking import Asking
from tisslm.workflows.launch.first_to_end import FirstToEnd
from tisslm.workflows.launch.left_over import end_left_over
from tisslm.workflows.launch.libmpi import MPI

__all__ = ["INTERRUPTED", "Ended", "run_job"]

#: What a shell shows for Ctrl-C.
INTERRUPTED = 128 + signal.SIGINT

#: Seconds between looks, and that a job has to end by itself after a second signal.
_LOOK = 0.05
_PATIENCE = 3.0


@dataclass(frozen=True)
class Ended:
    """How a job has ended.

    Attributes
    ----------
    code : int
        That the command is to end with, if no other start follows.
    note : Note or None
        What the first rank has told.
    why : str
        The end in words, where it was none that a run comes to by itself.
    early : bool
        Whether a signal has ended it before training began, so that nothing had to be saved.
    who : str
        The rank that a signal has ended, in words; "" where there is none, or it is not known.
    """

    code: int
    note: Note | None
    why: str = ""
    early: bool = False
    who: str = ""


def run_job(
    arguments: Sequence[str],
    ranks: int,
    mpi: MPI | None,
    asking: Asking,
    *,
    announce: Callable[[str], object],
    watch: Callable[[int], object] | None = None,
) -> Ended:
    """Run a command of ``tisslm`` on all ranks, and wait for its end.

    Parameters
    ----------
    arguments : sequence of str
        Of ``tisslm``.
    ranks : int
    mpi : MPI or None
        None for one rank, which needs none.
    asking : Asking
    announce : callable
        Is told in a line what signal is handed on as another one.
    watch : callable, optional
        Is told the id of the process that starts the ranks.
    """
    program = [sys.executable, *_own_path(), "-m", "tisslm", *arguments]
    line = program if mpi is None else mpi.start_line(ranks, program)
    with tempfile.TemporaryDirectory(prefix="tisslm-launch-") as name:
        lender, first = Lender(Path(name)), FirstToEnd(ranks)
        process = subprocess.Popen(
            [*_tied(_handed(signal.SIGTERM, mpi)), *line],
            env={**os.environ, **(mpi.environment if mpi else {}), FOLDER: name},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # so that Ctrl-C comes here alone, and is handed on once
        )
        try:
            if watch is not None:
                watch(process.pid)
            early = _Job(process, mpi, asking, Path(name), announce, first).wait(lender)
        finally:
            lender.close()
            first.close()
            _end(process)
            end_left_over(FOLDER, name)
        code = process.returncode
        code = mpi.exit_code(code) if mpi else (128 - code if code < 0 else code)
        return _judge(code, read_note(Path(name)), asking, early, first.who)


def _tied(number: signal.Signals) -> list[str]:
    """Return what begins a command line whose program gets a signal if this process vanishes."""
    program = str(Path(__file__).with_name("tied.py"))
    return [sys.executable, "-I", "-S", program, str(os.getpid()), str(int(number))]


def _own_path() -> list[str]:
    """Return the option that keeps the working folder out of Python's path, if it is not in it."""
    return [] if sys.path[:1] in ([""], [os.getcwd()]) else ["-P"]


@dataclass(frozen=True)
class _Job:
    process: subprocess.Popen[bytes]
    mpi: MPI | None
    asking: Asking
    folder: Path
    announce: Callable[[str], object]
    first: FirstToEnd

    def wait(self, lender: Lender) -> bool:
        """Wait for the end, and hand on signals; tell whether one came before training began."""
        handed, until = False, math.inf
        while self.process.poll() is None and time.monotonic() < until:
            if self.asking.by is not None and not handed:
                if self.mpi is not None and read_note(self.folder) is None:
                    return True  # MPI's launcher or a rank may not listen yet
                handed = True
                self._hand_on(self.asking.by)
            if self.asking.twice and until == math.inf:
                until = time.monotonic() + _PATIENCE
                self.process.send_signal(_handed(self.asking.by or signal.SIGINT, self.mpi))
            self.first.note(lender.lend(_LOOK, self.first.waited_for))
            if self.mpi and not self.first.is_sought and read_note(self.folder):
                self.first.find(FOLDER, str(self.folder))  # training has begun, on all ranks
        return False

    def _hand_on(self, number: signal.Signals) -> None:
        other = _handed(number, self.mpi)
        if other != number:
            self.announce(f"{number.name}: handed on to the ranks as {other.name}")
        self.process.send_signal(other)


def _handed(number: signal.Signals, mpi: MPI | None) -> signal.Signals:
    """Return the signal for the ranks: the only one that every launcher hands on, and none acts on.

    Open MPI's ``mpirun`` kills all ranks at SIGTERM and SIGINT.
    """
    return number if mpi is None else signal.SIGUSR1


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process that starts the ranks, first kindly, for it knows where they are."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE)


def _judge(code: int, note: Note | None, asking: Asking, early: bool, who: str) -> Ended:
    """Return what the end of the ranks means.

    An exit code of 0 is no proof that a run is complete, nor another one that it is not.
    """
    if note is not None and note.complete:
        return Ended(0, note)
    if asking.twice:
        return Ended(INTERRUPTED, note)
    unheard = asking.by is not None and code - 128 in (asking.by, signal.SIGUSR1)
    if early or unheard:  # it came before the ranks listened
        return Ended(EXIT_CODE, note, early=True)
    if code == 0:
        return Ended(1, note, "the ranks ended with code 0, before the run was complete")
    try:
        number = signal.Signals(code - 128)
    except ValueError:
        return Ended(code, note, f"the ranks ended with code {code}")
    return Ended(code, note, f"{who or 'a rank'} was ended by {number.name}", who=who)

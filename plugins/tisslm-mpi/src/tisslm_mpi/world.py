"""The one MPI job that a process is part of: its watch, and how it ends.

``mpiexec`` looks at processes. A rank that has failed, and waits at MPI's end for the others to
come there, is a live process to it, and the others wait for the rank. So an error that nobody
catches ends all ranks at once, and a rank that ends while others wait for it is not let go quietly.
"""

from __future__ import annotations

import atexit
import faulthandler
import fcntl
import os
import socket
import stat
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from tisslm_mpi.libmpi import load_mpi
from tisslm_mpi.lingering import end_lingering_launcher
from tisslm_mpi.post import Post
from tisslm_mpi.watch import STALLED, Watch
from tisslm_mpi.witnessed import Witnessed

__all__ = ["World", "enter"]

#: Seconds that MPI has to end all ranks, before this one ends itself.
_ABORT = 5.0

#: Least seconds that ranks have to come together: Open MPI alone takes one or two.
JOINING = 30.0

#: Most seconds to wait until the launcher has read what a rank says at its end, and then what the
#: launcher has to pass it on in: MPICH's drops what it has not passed on when ranks are aborted.
_READ, _PASSED_ON = 2.0, 0.2

_worlds: list[World] = []


def enter(timeout: float) -> World:
    """Return this process's world, in which the watch has a time-out from now on."""
    if not _worlds:
        with _ended_after(timeout):
            _worlds.append(World(*load_mpi()))
    _worlds[0].watch.timeout = timeout
    return _worlds[0]


@contextmanager
def _ended_after(timeout: float) -> Iterator[None]:
    """End the process where ranks that are missing keep MPI from starting; 0 waits for ever.

    There is no communicator yet by which a watch could ask who is missing, and MPI does not let
    Python run while it waits: a thread of C ends the process, and shows the stack.
    """
    error = sys.__stderr__
    if not timeout or error is None:
        yield
        return
    faulthandler.dump_traceback_later(max(timeout, JOINING), exit=True, file=error)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


class World:
    """All ranks that MPI knows.

    Attributes
    ----------
    mpi : module
        ``mpi4py.MPI``.
    host : str
        Name of this machine.
    watch : Watch
    """

    def __init__(self, mpi: Any, ours: bool) -> None:
        self.mpi = mpi
        self.host = socket.gethostname()
        self.watch = Watch(0.0)
        self._ours = ours
        self._process = os.getpid()
        self._name = f"rank {mpi.COMM_WORLD.rank} on {self.host} of {mpi.COMM_WORLD.size}"
        self._started = False
        self._code: object = None
        self._witnessed: Witnessed | None = None
        self._exit_at_once = os._exit

    def start(self, gather: Callable[[bytes], list[bytes]]) -> None:
        """Take care of the end, with several ranks of their common one; once.

        Parameters
        ----------
        gather : callable
            Gives bytes to all ranks, and returns those of every rank, in order.
        """
        if self._started:
            return
        self._started = True
        hosts = [name.decode() for name in gather(self.host.encode())]
        if len(hosts) > 1:
            vendor, rank = self.mpi.get_vendor()[0], self.mpi.COMM_WORLD.rank
            # others name the right rank, unless one on another machine is quicker to fail
            if vendor == "MPICH" or len(set(hosts)) > 1:
                self._witnessed = Witnessed(gather, rank, hosts, self._name)
            self._exit, sys.exit = sys.exit, self._note_exit
            os._exit = self._leave_at_once
            self._print, sys.excepthook = sys.excepthook, self._fail
            self._print_thread, threading.excepthook = threading.excepthook, self._fail_in_thread
            names = [f"rank {q} on {host}" for q, host in enumerate(hosts)]
            post = Post(self.mpi, self.mpi.COMM_WORLD.Dup())
            ending = end_lingering_launcher if vendor == "Open MPI" else _do_nothing
            self.watch.start(post, names, self.abort, ending)
        atexit.register(self._leave)

    def abort(self, code: int) -> NoReturn:
        """End all ranks with a code."""
        if self._witnessed is not None:
            self._witnessed.all_end()
        last = threading.Timer(_ABORT, self._exit_at_once, (code,))
        last.daemon = True
        last.start()  # MPI may be what stands still, or the stream that is flushed
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        _wait_until_read()
        self.mpi.COMM_WORLD.Abort(code)
        self._exit_at_once(code)

    def _note_exit(self, status: Any = None, /) -> NoReturn:
        """Do what ``sys.exit`` does, and remember the code, which nobody is told at the end."""
        self._code = status
        self._exit(status)

    def _leave_at_once(self, status: int) -> NoReturn:
        """Do what ``os._exit`` does, but not while another rank waits for this one.

        A launcher may take the code of a rank that vanishes so for that of the job, 0 too.
        """
        self._code = status
        self._leave()
        self._exit_at_once(status)

    def _fail(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        """Print what nobody caught, with the rank, and end all."""
        self._head()
        self._print(kind, error, trace)
        self._abort_here(130 if issubclass(kind, KeyboardInterrupt) else 1)

    def _fail_in_thread(self, arguments: Any) -> None:
        if issubclass(arguments.exc_type, SystemExit):  # a thread may end so
            self._print_thread(arguments)
            return
        self._head()
        self._print_thread(arguments)
        self._abort_here(1)

    def _head(self) -> None:
        if os.getpid() == self._process:
            os.write(2, f"tisslm: {self._name}: has failed, and all ranks are ended\n".encode())

    def _abort_here(self, code: int) -> None:
        if os.getpid() == self._process:  # and not in a child that was forked
            self.abort(code)

    def _leave(self) -> None:
        """At the interpreter's end: end MPI together, or end all if another rank waits for this."""
        if os.getpid() != self._process:
            return
        together = self.mpi.COMM_WORLD.size == 1 or self.watch.leave()
        if not together:
            # a code that is no number is a message, and 1
            self.abort(self._code if isinstance(self._code, int) and self._code else STALLED)
        if self._witnessed is not None:
            self._witnessed.all_end()
        if self._ours:
            self.mpi.Finalize()


def _do_nothing() -> None:
    """Where a launcher ends with its ranks."""


def _wait_until_read() -> None:
    """Wait until nothing is left in the pipes that the standard streams are."""
    until = time.monotonic() + _READ
    while any(map(_unread, (1, 2))) and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(_PASSED_ON)


def _unread(stream: int) -> bool:
    """Return whether a pipe holds bytes that its reader has not taken; False for anything else."""
    n_bytes = bytearray(4)
    try:
        if not stat.S_ISFIFO(os.fstat(stream).st_mode):
            return False
        fcntl.ioctl(stream, termios.FIONREAD, n_bytes)
    except OSError:  # closed, or a system that does not tell
        return False
    return any(n_bytes)

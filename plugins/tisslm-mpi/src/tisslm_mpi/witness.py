"""Run by itself, once on each machine: say which of its ranks was the first to vanish.

MPICH's launcher, where it loses a rank, ends the others by SIGKILL within some milliseconds, and
then names the first process that a signal has ended, be it one of those. No rank lives to tell.
This program has a session of its own, so that the launcher leaves it alone, and a stream to each
rank. The kernel closes those of a process that ends, however it does, before the launcher can
know, and ``epoll`` returns streams in the order in which they were closed.

The argument is the number of a listening socket. Each rank sends its name in a line, and may send
its socket to the launcher with it. That stays open here, so that a rank which leaves by itself has
its job ended from here, as MPI_Abort would: the launcher takes the code of such a rank for the
job's, 0 too. Another line says that all are about to end.
"""

import contextlib
import fcntl
import os
import select
import socket
import stat
import struct
import sys
import termios
import time
from pathlib import Path

#: Seconds for the ranks to begin to come, and most bytes of what one says.
PATIENCE, MOST = 60.0, 1000

#: Most seconds until the launcher has read what is said here, and seconds that it has to end all.
READ, OWN_END = 2.0, 1.0

GONE = (
    b"has vanished, before any other on its machine: it was killed (by hand, by the kernel for "
    b"want of memory, by the launcher), has crashed, or has left by _exit"
)

#: What a job ends with whose rank has left with 0 (``STALLED`` of ``watch.py``).
LEFT = 76

#: <linux/pidfd.h>: what a handle of a process that is gone still tells, since Linux 6.15.
PIDFD_GET_INFO, PIDFD_INFO_EXIT, PIDFD_INFO = 0xC040FF0B, 1 << 3, "=Q52xi"


class Rank:
    """A rank, as far as it is known: its stream, its process, what it has said, its launcher."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream
        told = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        self.process, self.user, _ = struct.unpack("3i", told)
        self.handle: int | None = None
        with contextlib.suppress(OSError):  # on an old kernel, or it is gone
            self.handle = os.pidfd_open(self.process)
        self.said = bytearray()
        self.launchers: list[int] = []

    def hear(self) -> bool:
        """Take what there is; False once the rank is gone."""
        data, sockets, _, _ = socket.recv_fds(self.stream, MOST, 1)
        self.said += data
        self.launchers += sockets
        return bool(data)

    def tell(self) -> None:
        """Say that it has vanished; have MPICH's launcher end all, unless a signal has ended it.

        Of signals that knows, once the streams are closed here. Others tell of codes themselves,
        and a rank that MPI has ended for the end of another one has such a code, too.
        """
        status = self._status()
        code = os.waitstatus_to_exitcode(status or 0)
        if code > 0 and not self.launchers:
            return
        with contextlib.suppress(OSError):  # nobody reads it
            os.write(2, b"tisslm: %s: %s\n" % (self.said.partition(b"\n")[0], GONE))
        if code < 0 or not self.launchers:
            return
        wait_until_read(2)  # what comes after an abort is dropped
        if status is None:
            os.close(2)  # for whose end it waits
            time.sleep(OWN_END)
        with contextlib.suppress(OSError):  # it has gone; a command of PMI, version 1
            os.write(self.launchers[0], b"cmd=abort exitcode=%d\n" % (code or LEFT))

    def _status(self) -> int | None:
        """Return how the process has ended, as ``waitpid`` would; None if that is lost."""
        with contextlib.suppress(OSError):  # until its parent has asked
            line = Path(f"/proc/{self.process}/stat").read_text()
            return int(line.rpartition(")")[2].split()[49])  # the 52nd of all: man 5 proc_pid_stat
        if self.handle is not None:
            with contextlib.suppress(OSError):
                info = bytearray(struct.pack(PIDFD_INFO, PIDFD_INFO_EXIT, 0))
                fcntl.ioctl(self.handle, PIDFD_GET_INFO, info)
                found, status = struct.unpack(PIDFD_INFO, info)
                return int(status) if found & PIDFD_INFO_EXIT else None
        return None


def main() -> None:
    """Look on until a rank vanishes, or says that all end."""
    listening = socket.socket(fileno=int(sys.argv[1]))
    ready = select.epoll()
    ranks: dict[int, Rank] = {}
    ready.register(listening, select.EPOLLIN)
    while found := ready.poll(None if ranks else PATIENCE):
        for handle, _ in found:
            if handle == listening.fileno():
                rank = Rank(listening.accept()[0])
                if rank.user == os.getuid():  # anybody on the machine may connect
                    ranks[rank.stream.fileno()] = rank
                    ready.register(rank.stream, select.EPOLLIN)
                continue
            rank = ranks[handle]
            lives = rank.hear()
            if not lives:
                rank.tell()
            if not lives or rank.said.partition(b"\n")[2]:
                return


def wait_until_read(stream: int) -> None:
    """Wait until nothing is left in a pipe that its reader has not taken."""
    until = time.monotonic() + READ
    n_bytes = bytearray(4)
    while stat.S_ISFIFO(os.fstat(stream).st_mode) and time.monotonic() < until:
        fcntl.ioctl(stream, termios.FIONREAD, n_bytes)
        if not any(n_bytes):
            return
        time.sleep(0.01)


if __name__ == "__main__":
    main()

"""Run by itself, once on each machine: say which of its ranks was the first to vanish.

MPICH's launcher, where it loses a rank, ends the others by SIGKILL within some milliseconds, and
then names the first process that a signal has ended, be it one of those. No rank lives to tell.
This program has a session of its own, so that the launcher leaves it alone, and a stream to each
rank. The kernel closes those of a process that ends, however it does, before the launcher can
know, and ``epoll`` returns streams in the order in which they were closed.

The argument is the number of a listening socket. Each rank sends its name in a line. Another line
says that all are about to end.
"""

import os
import select
import socket
import struct
import sys

#: Seconds for the ranks to begin to come, and most bytes of what one says.
PATIENCE, MOST = 60.0, 1000

GONE = (
    b"has vanished, before any other on its machine: it was killed (by hand, by the kernel for "
    b"want of memory, by the launcher), has crashed, or has left by _exit"
)


def main() -> None:
    """Look on until a rank vanishes, or says that all end."""
    listening = socket.socket(fileno=int(sys.argv[1]))
    ready = select.epoll()
    streams: dict[int, tuple[socket.socket, bytearray]] = {}
    ready.register(listening, select.EPOLLIN)
    while found := ready.poll(None if streams else PATIENCE):
        for handle, _ in found:
            if handle == listening.fileno():
                stream = listening.accept()[0]
                if user(stream) == os.getuid():
                    streams[stream.fileno()] = stream, bytearray()
                    ready.register(stream, select.EPOLLIN)
                continue
            stream, said = streams[handle]
            data = stream.recv(MOST)
            said += data
            name, _, end = said.partition(b"\n")
            if not data:
                os.write(2, b"tisslm: %s: %s\n" % (name, GONE))
            if end or not data:
                return


def user(stream: socket.socket) -> int:
    """Return who is at the other end: anybody on the machine may connect."""
    told = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", told)[1])


if __name__ == "__main__":
    main()

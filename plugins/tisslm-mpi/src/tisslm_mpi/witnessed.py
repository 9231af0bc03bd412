"""The stream of a rank to the witness of its machine, by which its end is noticed."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["Witnessed"]

#: Name of the process by which MPICH's launcher starts the ranks of a machine.
PROXY = "hydra_pmi_proxy"


class Witnessed:
    """Has the end of this process witnessed, as far as the system lets it.

    Parameters
    ----------
    gather : callable
        Gives bytes to all ranks, and returns those of every rank, in order.
    rank : int
    hosts : sequence of str
        Names of the ranks' machines. The first rank of each starts its witness.
    name : str
        Of this rank, for the message.
    """

    def __init__(
        self,
        gather: Callable[[bytes], list[bytes]],
        rank: int,
        hosts: Sequence[str],
        name: str,
    ) -> None:
        first = hosts.index(hosts[rank])
        address = gather(_start() if rank == first else b"")[first]
        self._stream = socket.socket(socket.AF_UNIX)
        os.register_at_fork(after_in_child=self._stream.close)
        with contextlib.suppress(OSError):  # there is none, or not in this container
            self._stream.connect(address)
            line = f"{name} (process {os.getpid()})\n".encode()
            socket.send_fds(self._stream, [line], _launchers())

    def all_end(self) -> None:
        """Say that what ends from now on does so by the will of a rank."""
        with contextlib.suppress(OSError):
            self._stream.send(b"end\n")


def _launchers() -> list[int]:
    """Return this process's socket to MPICH's launcher, if that has started it itself."""
    handle = os.environ.get("PMI_FD", "")
    with contextlib.suppress(OSError):
        parent = Path(f"/proc/{os.getppid()}/comm").read_text().strip()
        if parent == PROXY and handle.isdecimal() and stat.S_ISSOCK(os.fstat(int(handle)).st_mode):
            return [int(handle)]
    return []


def _start() -> bytes:
    """Start the witness; return its address, one that leads nowhere if it cannot be started."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as listening:
        listening.bind("")  # to an abstract address that nobody has
        listening.listen(1024)
        subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", str(Path(__file__).with_name("witness.py"))),
                str(listening.fileno()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=[listening.fileno()],
        )
        return bytes(listening.getsockname())
    return b"\0"

"""What the witness says of streams that are closed, and what it makes of strangers."""

from __future__ import annotations

import fcntl
import socket
import subprocess
import sys
import termios
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import tisslm_mpi

PROGRAM = Path(tisslm_mpi.__file__).with_name("witness.py")


@pytest.fixture
def witness():
    """The program, and how to reach it."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("")
        listening.listen()
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(PROGRAM), str(listening.fileno())],
            stderr=subprocess.PIPE,
            pass_fds=[listening.fileno()],
        )
        address = listening.getsockname()
    with process, ExitStack() as opened:

        def come(name: str) -> socket.socket:
            stream = opened.enter_context(socket.socket(socket.AF_UNIX))
            stream.connect(address)
            stream.sendall(f"{name}\n".encode())
            while unread(stream):
                time.sleep(0.01)
            return stream

        yield process, come
        process.kill()


def unread(stream: socket.socket) -> int:
    """Return what of the bytes that were sent the other side has not taken."""
    found = bytearray(4)
    fcntl.ioctl(stream, termios.TIOCOUTQ, found)
    return int.from_bytes(found, sys.byteorder)


def test_the_first_to_vanish_is_named_and_no_other(witness):
    process, come = witness
    streams = [come(f"rank {n}") for n in range(3)]
    for n in (1, 0, 2):
        streams[n].close()
    error = process.communicate(timeout=30)[1].decode()
    assert error.startswith(
        "tisslm: rank 1: has vanished, before any other on its machine: it was killed "
    )
    assert error.count("\n") == 1


def test_nothing_is_said_of_an_end_that_a_rank_has_told(witness):
    process, come = witness
    streams = [come(f"rank {n}") for n in range(2)]
    streams[1].sendall(b"end\n")
    streams[0].close()
    assert process.communicate(timeout=30)[1] == b""
    assert process.returncode == 0

"""What the witness says of streams that are closed, and what it makes of strangers."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import termios
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import tisslm_mpi
from tisslm_mpi.witness import Rank

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

        yield process, come, address
        process.kill()


def unread(stream: socket.socket) -> int:
    """Return what of the bytes that were sent the other side has not taken."""
    found = bytearray(4)
    fcntl.ioctl(stream, termios.TIOCOUTQ, found)
    return int.from_bytes(found, sys.byteorder)


def test_the_first_to_vanish_is_named_and_no_other(witness):
    process, come, _ = witness
    streams = [come(f"rank {n}") for n in range(3)]
    for n in (1, 0, 2):
        streams[n].close()
    error = process.communicate(timeout=30)[1].decode()
    assert error.startswith(
        "tisslm: rank 1: has vanished, before any other on its machine: it was killed "
    )
    assert error.count("\n") == 1


def test_nothing_is_said_of_an_end_that_a_rank_has_told(witness):
    process, come, _ = witness
    streams = [come(f"rank {n}") for n in range(2)]
    streams[1].sendall(b"end\n")
    streams[0].close()
    assert process.communicate(timeout=30)[1] == b""
    assert process.returncode == 0


#: A rank, which may hand its socket to the launcher on, and ends when it is told to.
RANK = """
import os, socket, sys
stream = socket.socket(socket.AF_UNIX)
stream.connect(bytes.fromhex(sys.argv[1]))
socket.send_fds(stream, [b"rank 0\\n"], [int(number) for number in sys.argv[3:]])
print("come", flush=True)
sys.stdin.readline()
exec(sys.argv[2])
"""


@contextmanager
def rank(address: bytes, end: str, *handles: int):
    """A process that has come, and ends so when its input does."""
    arguments = [sys.executable, "-c", RANK, address.hex(), end, *map(str, handles)]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=handles
    ) as process:
        process.stdout.readline()
        yield process


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("os._exit(0)", b"cmd=abort exitcode=76\n"),
        ("os._exit(3)", b"cmd=abort exitcode=3\n"),
        ("os.kill(os.getpid(), 9)", b""),  # by which the launcher knows what to do
        ("stream.send(b'end\\n')", b""),
    ],
)
def test_the_job_of_a_rank_that_leaves_is_ended_by_its_code_and_never_by_0(witness, end, told):
    process, come, address = witness
    here, there = socket.socketpair()
    with here, there, rank(address, end, there.fileno()) as first:
        come("rank 1")  # which lives on
        there.close()
        first.stdin.close()
        error = process.communicate(timeout=30)[1]
        assert b"".join(iter(lambda: here.recv(100), b"")) == told
    assert error.startswith(b"tisslm: rank 0: has vanished") == ("end" not in end)


@pytest.mark.parametrize(("end", "is_told"), [("_exit(0)", True), ("_exit(14)", False)])
def test_a_code_that_another_launcher_tells_of_is_not_told(witness, end, is_told):
    """With one, ranks are ended by MPI itself when another has vanished."""
    process, come, address = witness
    with rank(address, f"os.{end}") as first:
        come("rank 1")
        first.stdin.close()
        error = process.communicate(timeout=30)[1]
    assert error.startswith(b"tisslm: rank 0: has vanished") == is_told


@pytest.mark.parametrize(
    ("end", "status"), [("os._exit(0)", 0), ("os._exit(3)", 3 << 8), ("os.kill(os.getpid(), 9)", 9)]
)
def test_how_a_process_has_ended_is_known_before_its_parent_asks_and_after(end, status):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("")
        listening.listen()
        with rank(listening.getsockname(), end) as process, listening.accept()[0] as stream:
            known = Rank(stream)
            process.stdin.close()
            while known.hear():
                pass
            assert known._status() == status
            process.wait(30)
            assert known._status() in (status, None)  # which Linux tells since 6.15
            os.close(known.handle)

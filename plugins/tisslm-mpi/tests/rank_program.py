"""What the tests start on every rank: ``python rank_program.py MODE``; ``STALL`` in seconds."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
from tisslm_mpi import transfers, world
from tisslm_mpi.communicator import MPICommunicator

from tisslm.errors import ConfigError
from tisslm.system.launcher import find_launcher

STALL = float(os.environ.get("STALL", "5"))


def say(line: str) -> None:
    """Print a line in one piece, beside the other ranks."""
    os.write(1, f"{line}\n".encode())


def conformance() -> None:
    from tisslm.testing import check_communicator

    say(f"{check_communicator(MPICommunicator).n_assertions > 100} passed")


def parts() -> None:
    transfers.PART = 1000  # what 2^30 bytes are to arrays that nobody has the memory for
    conformance()


def refused() -> None:
    try:
        MPICommunicator()
    except ConfigError as error:
        say(str(error))
        sys.exit(3)


def no_mpi4py() -> None:
    sys.modules["mpi4py"] = None  # as if it were not there
    refused()


def no_threads() -> None:
    import mpi4py

    mpi4py.rc.thread_level = "serialized"
    from mpi4py import MPI  # noqa: F401, the program's own use of MPI comes first

    refused()


def loop(comm: MPICommunicator, at: int, event, among=(1,)) -> None:
    """Train, so to say: 40 steps, and something happens to some ranks in the middle."""
    own = np.ones(1 << 16, np.float32)
    received = [np.empty_like(own) for _ in range(comm.size)]
    for step in range(40):
        if step == at and comm.rank in among:
            event()
        comm.beat(f"step {step}")
        comm.share(own, received)
        time.sleep(0.002)
    say(f"done {comm.rank}")


def fail() -> None:
    raise ValueError("a step went wrong")


def fail_at_length() -> None:
    print("\n".join(f"line {n} of 2000" for n in range(2000)))  # more than half a pipe holds
    fail()


def fail_in_a_thread() -> None:
    threading.Thread(target=fail).start()
    time.sleep(60)


def stand_still() -> None:
    time.sleep(60)


def suspend(comm: MPICommunicator) -> None:
    """Be stopped for twice the time-out in the next call, in which rank 1 comes later than that."""
    if comm.rank == 1:
        work_long(comm, 2 * STALL + 2)
        return
    this = os.getpid()
    script = f"sleep 0.5; kill -STOP {this}; sleep {2 * STALL}; kill -CONT {this}"
    subprocess.Popen(["sh", "-c", script])


def work_long(comm: MPICommunicator, seconds: float = 3.0) -> None:
    for n in range(int(seconds / 0.1)):
        comm.beat(f"saving {n}")
        time.sleep(0.1)


ALONE = {f.__name__: f for f in (conformance, parts, refused, no_mpi4py, no_threads)}

EVENTS = {
    "exception": fail,
    "at length": fail_at_length,
    "thread": fail_in_a_thread,
    "exit3": lambda: sys.exit(3),
    "exit0": lambda: sys.exit(0),
    "_exit0": lambda: os._exit(0),
    "vanish": lambda: ctypes.CDLL(None)._exit(0),  # which Python does not see
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "still": stand_still,
}


def main(mode: str) -> None:
    if mode in ALONE:
        ALONE[mode]()
        return
    if mode == "absent":
        world.JOINING = 3.0
        if find_launcher().rank == 1:
            time.sleep(60)
    comm = MPICommunicator(stall_timeout=STALL)
    if mode == "finish":
        loop(comm, -1, fail)
        if comm.rank == 0:
            time.sleep(1.5)  # others end before
    elif mode == "long":
        loop(comm, 20, lambda: work_long(comm))
    elif mode == "suspended":
        loop(comm, 20, lambda: suspend(comm), among=range(comm.size))
    elif mode == "abort":
        loop(comm, 20, lambda: comm.abort(75))
    elif mode == "all_exit3":
        loop(comm, -1, fail)
        sys.exit(3)
    elif mode == "differ":
        comm.barrier() if comm.rank else comm.exchange(
            [np.ones(3, np.uint8)] * comm.size, [np.ones(3, np.uint8)] * comm.size
        )
    elif mode == "deadlock":
        if comm.rank:
            comm.broadcast(np.ones(1 << 20))
        else:
            comm.barrier()
    else:
        loop(comm, 20, EVENTS[mode])


main(sys.argv[1])

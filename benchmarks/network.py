"""What ranks send one another, and how long it takes: ``mpiexec -n 4 python network.py --help``.

What does not live here: the communicators, and what a training sends.
"""

from __future__ import annotations

import socket
import statistics
import struct
import time
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import typer
from command import JsonFile, Rounds
from machine import describe, stop, write_json

from tisslm.contracts import Communicator
from tisslm.errors import TissLMError
from tisslm.registry import load_registry
from tisslm.system.launcher import find_launcher
from tisslm.testing import check_communicator

CALLS = ("barrier", "all_gather", "share", "exchange", "broadcast")
MOST = 1 << 30


def parse_bytes(text: str) -> list[int]:
    """Turn ``8,4096`` into sizes of arrays.

    Raises
    ------
    ValueError
        With one sentence that says what was expected.
    """
    fields = [part.strip() for part in text.split(",")]
    sizes = [int(part) for part in fields if part.isdecimal() and 1 <= int(part) <= MOST]
    if len(sizes) < len(fields):
        raise ValueError(f"--bytes: expected sizes from 1 to {MOST}, comma-separated, got {text!r}")
    return sizes


def call_of(name: str, comm: Communicator, n_bytes: int) -> Callable[[], object]:
    """Return a call with arrays of a size."""
    own = np.zeros(n_bytes, np.uint8)
    if name == "barrier":
        return comm.barrier
    if name == "broadcast":
        return lambda: comm.broadcast(own)
    if name == "all_gather":
        data = own.tobytes()
        return lambda: comm.all_gather(data)
    received = [np.zeros(n_bytes, np.uint8) for _ in range(comm.size)]
    if name == "share":
        return lambda: comm.share(own, received)
    sent = [np.zeros(n_bytes, np.uint8) for _ in range(comm.size)]
    return lambda: comm.exchange(sent, received)


def slowest(comm: Communicator, call: Callable[[], object], rounds: int) -> float:
    """Return the median over rounds of the seconds that the slowest rank takes."""
    took = []
    for _ in range(rounds + 1):
        comm.barrier()
        start = time.perf_counter()
        call()
        took.append(time.perf_counter() - start)
    told = [
        struct.unpack(f"{rounds}d", data)
        for data in comm.all_gather(struct.pack(f"{rounds}d", *took[1:]))
    ]
    return statistics.median(map(max, zip(*told, strict=True)))


def measure(comm: Communicator, sizes: list[int], rounds: int) -> list[dict[str, Any]]:
    """Time every call at every size."""
    rows = []
    for name in CALLS:
        for n_bytes in sizes if name != "barrier" else [1]:
            seconds = slowest(comm, call_of(name, comm, n_bytes), rounds)
            sent = n_bytes * (comm.size - 1)
            rows.append(
                {
                    "call": name,
                    "bytes": n_bytes,
                    "microseconds": 1e6 * seconds,
                    "sent_gb_per_s": 1e-9 * sent / seconds,
                }
            )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Lay the results out for reading."""
    lines = [f"{'call':<12}{'bytes':>12}{'microseconds':>15}{'GB/s sent':>12}"]
    lines += [
        f"{row['call']:<12}{row['bytes']:12,}{row['microseconds']:15,.1f}"
        f"{row['sent_gb_per_s']:12.3f}"
        for row in rows
    ]
    return "\n".join(lines)


def run(
    n_bytes: Annotated[
        str, typer.Option("--bytes", help="Sizes of an array, comma-separated.")
    ] = "8,4096,65536,1048576,16777216",
    communicator: Annotated[str, typer.Option(help="Empty: the launcher's, or local.")] = "",
    rounds: Rounds = 20,
    json_file: JsonFile = None,
) -> None:
    """Time the calls of a communicator between all ranks, after checking what they bring."""
    launcher = find_launcher()
    name = communicator or (launcher.communicator if launcher else "local")
    try:
        sizes = parse_bytes(n_bytes)
    except ValueError as error:
        stop(str(error), 2)
    try:
        check_communicator(load_registry().get("communicator", name))
        comm = load_registry().build("communicator", name)
    except TissLMError as error:
        stop(str(error), 1)
    hosts = [data.decode() for data in comm.all_gather(socket.gethostname().encode())]
    rows = measure(comm, sizes, rounds)
    if comm.rank == 0:
        print(f"{name}: {comm.size} ranks on {len(set(hosts))} machines, median of {rounds} rounds")
        print(table(rows))
        document = {"communicator": name, "hosts": hosts, "machine": describe(), "results": rows}
        write_json(json_file, document)


if __name__ == "__main__":
    typer.run(run)

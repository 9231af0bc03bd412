"""A process that starts commands with standard streams that are closed, full or broken.

It imports what most commands import, and each command is a fork of it that ends as any Python
ends: so a hundred commands take a minute. The kernels are loaded by the forks, because a process
that has them does not fork. Requests and answers are lines of JSON, one command for each processor
at once.
"""

from __future__ import annotations

import gc
import io
import json
import os
import sys
import tempfile
from importlib import import_module
from typing import IO, Any

BEFORE = (
    "matplotlib.figure",
    "matplotlib.backends.backend_svg",
    "numpy",
    "pluggy",
    "psutil",
    "pydantic",
    "rich.console",
    "rich.table",
    "safetensors.numpy",
    "scipy.linalg.cython_blas",
    "threadpoolctl",
    "tokenizers",
    "tisslm.cli.main",
    "tisslm.cli.verify",
    "tisslm.config",
    "typer",
)

#: Commands at the same time; two of them are slow enough together.
AT_ONCE = min(2, len(os.sched_getaffinity(0)))


def main() -> None:
    for name in BEFORE:
        import_module(name)
    gc.freeze()  # what is here is no garbage of the forks
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    for line in requests:
        answers.write(json.dumps(all_of(json.loads(line))) + "\n")
        answers.flush()


def all_of(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run commands, and return exit codes and texts in their order."""
    pair = tempfile.TemporaryFile  # closed when they have been read
    files = [(pair(), pair()) for _ in requests]
    running: dict[int, int] = {}
    codes: dict[int, int] = {}
    for number, request in enumerate(requests):
        while len(running) >= AT_ONCE:
            end_of_one(running, codes)
        child = os.fork()
        if child == 0:
            begin(request, {1: files[number][0].fileno(), 2: files[number][1].fileno()})
            sys.exit()
        running[child] = number
    while running:
        end_of_one(running, codes)
    return [
        {"code": codes[number], "out": text_of(out), "err": text_of(err)}
        for number, (out, err) in enumerate(files)
    ]


def end_of_one(running: dict[int, int], codes: dict[int, int]) -> None:
    child, status = os.waitpid(-1, 0)
    codes[running.pop(child)] = os.waitstatus_to_exitcode(status)


def text_of(file: IO[bytes]) -> str:
    with file:
        file.seek(0)
        return file.read().decode()


def begin(request: dict[str, Any], files: dict[int, int]) -> None:
    """Be the command: with the streams as a shell would have made them for a new Python."""
    os.chdir(request["folder"])
    for handle in (0, 1, 2):
        state = request["streams"].get(str(handle), "ready")
        if state == "closed":
            os.close(handle)
        elif state == "full":
            os.dup2(os.open("/dev/full", os.O_WRONLY), handle)
        elif state == "broken":
            reader, writer = os.pipe()
            os.close(reader)
            os.dup2(writer, handle)
            os.close(writer)
        elif handle:
            os.dup2(files[handle], handle)
        elif "input" in request:
            os.dup2(os.open(request["input"], os.O_RDONLY), handle)
    sys.stdin, sys.stdout, sys.stderr = (python_stream(handle) for handle in (0, 1, 2))
    from tisslm.cli.main import main as command

    sys.argv = ["tisslm", *request["arguments"]]
    command()


def python_stream(handle: int) -> Any:
    """Return what Python makes of a handle when it starts."""
    try:
        os.fstat(handle)
    except OSError:
        return None
    raw = io.FileIO(handle, "w" if handle else "r", closefd=False)
    buffer = io.BufferedWriter(raw) if handle else io.BufferedReader(raw)
    return io.TextIOWrapper(buffer, encoding="utf-8", line_buffering=handle == 2)


if __name__ == "__main__":
    main()

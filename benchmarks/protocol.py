"""How the benchmark talks with its sides: one line of JSON there, one line back.

A side is a process that stays alive and works only while it is asked, so that no two sides
run at the same time. Only the standard library is imported, because a peer's interpreter
may have nothing else.

What does not live here: what the sides compute.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = [
    "Side",
    "SideFailedError",
    "UnavailableError",
    "above_parameters",
    "memory",
    "resident_bytes",
    "serve",
]

LOG_LINES = 15  # of a failed side's standard error, shown to the user


class UnavailableError(Exception):
    """A side cannot run here (its library or compiler is missing); the reason is the text."""


class SideFailedError(Exception):
    """A side started and then broke."""


class Side:
    """The benchmark's end of one side.

    Parameters
    ----------
    who : str
        Name in the results.
    command : list of str
        Starts the process, whose main program calls ``serve``.
    env : mapping of str to str
        Added to this process's environment.
    log : Path
        Receives everything that the side prints.

    Raises
    ------
    UnavailableError
        If the command's program does not exist.
    """

    def __init__(self, who: str, command: list[str], env: Mapping[str, str], log: Path) -> None:
        self.who = who
        self._log = log
        try:
            with log.open("w") as errors:
                self._process = subprocess.Popen(
                    command,
                    env={**os.environ, **env},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                )
        except OSError as error:
            raise UnavailableError(f"{command[0]} cannot be started ({error.strerror})") from error

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Have the side run one of its handlers, and wait for what it returns."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise SideFailedError(f"{self.who}: no pipe to the process")
        try:
            stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        reply: dict[str, Any] = json.loads(line) if line else {"failed": "the process ended"}
        if "unavailable" in reply:
            raise UnavailableError(reply["unavailable"])
        if "failed" in reply:
            raise SideFailedError(f"{self.who}: {do}: {reply['failed']}\n{self._end_of_log()}")
        return reply

    def close(self) -> None:
        """End the process, in whatever state it is."""
        self._process.kill()
        self._process.communicate()

    def _end_of_log(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        return "\n".join(f"  | {line}" for line in lines[-LOG_LINES:])


def serve(handlers: Mapping[str, Callable[..., dict[str, Any]]]) -> None:
    """Answer requests on standard input until it ends: a side's main loop.

    Parameters
    ----------
    handlers : mapping of str to callable
        Each takes the request's arguments by keyword and returns a JSON object. One that
        raises ``UnavailableError`` or anything else is answered for, and the loop goes on.
    """
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the replies
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = handlers[request.pop("do")](**request)
        except UnavailableError as error:
            reply = {"unavailable": str(error)}
        except Exception as error:  # the asker decides what it means
            traceback.print_exc()
            reply = {"failed": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def memory(import_rss_bytes: int) -> dict[str, Any]:
    """Report this process's memory: after its imports, as it was told, and the peak so far."""
    return {
        "import_rss_bytes": import_rss_bytes,
        "peak_rss_bytes": resident_bytes("VmHWM"),
    }


def resident_bytes(field: str) -> int:
    """Return this process's resident set, in bytes: VmRSS is the one now, VmHWM the largest.

    Linux keeps the largest per address space. The figure of ``getrusage`` is inherited from
    the process that started this one, so it serves only where there is no /proc.
    """
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields[field].split()[0]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def above_parameters(memory: dict[str, int], parameters: int) -> int:
    """Return the peak less what is loaded and less weights, gradients and AdamW's state."""
    return memory["peak_rss_bytes"] - memory["import_rss_bytes"] - 16 * parameters

"""A save that is killed, or told of an error, at every one of its system calls.

One save is traced to list its calls. For each of them, another is made in which the kernel kills
the process at that call, or answers it with an error instead of doing it (``strace -e inject``).

Left out are calls before the first that names the folder, and exit_group after the last; calls
that touch memory, locks or nothing at all (``PASSIVE``), because a kill there finds the disk as at
the next call, and an error there is no disk's; and, of errors alone, those that the kernel never
answers so (``NEVER_FAIL``). A save of large arrays makes the same calls, more of write, and two
more: it starts threads, which hash and touch no file, and gives fadvise64 as a hint, whose failure
is ignored (``tests/checkpoint`` has that test).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash import saver

from tisslm import checkpoint

ROOT = Path(__file__).parents[2]
SCRIPT = Path(saver.__file__)
STRACE = shutil.which("strace")

#: Calls of a save that have nothing to do with files: a kill finds the disk as at the next call.
PASSIVE = {"getpid", "mmap", "mremap", "munmap", "mprotect", "brk", "madvise", "futex"}
#: What the kernel does not answer with these errors.
NEVER_FAIL = {"lseek", "ioctl", "fcntl", "exit_group", "kill", "rt_sigtimedwait"}


class Server:
    """The process that saves in children, or does what another script says."""

    def __init__(self, script: Path = SCRIPT, *more: str) -> None:
        command = [sys.executable, "-I", "-W", "ignore", str(script), str(ROOT), *more]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def traced(self, scenario: str, folder: Path, *options: str) -> int:
        """Save under strace and return how the process ended, as ``waitpid`` says it."""
        pid = int(self._ask(f"{scenario} {folder}\n"))
        command = [str(STRACE), *options, "-p", str(pid)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            assert strace.stderr
            greeting = strace.stderr.readline()
            os.kill(pid, signal.SIGUSR1)
            status = int(self._ask(""))
            if "attached" not in greeting:
                pytest.skip(f"strace may not trace: {greeting.strip()}")
            strace.communicate()
        return status

    def _ask(self, line: str) -> str:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(line)
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def close(self) -> str:
        """End the process and return what it has written to its standard error."""
        return self.process.communicate()[1]


@pytest.fixture
def server() -> Iterator[Server]:
    if STRACE is None:
        pytest.skip("strace is not installed (Debian: apt-get install strace)")
    server = Server()
    yield server
    server.close()


class Case:
    """One scenario in fresh copies of a folder."""

    def __init__(self, server: Server, quick: Path, scenario: str) -> None:
        self.server, self.quick, self.scenario = server, quick, scenario
        self.template = quick / "template"
        saver.prepare(scenario, self.template / "checkpoints")
        self.count = 0

    def fresh(self) -> Path:
        """Return the folder of checkpoints of a copy."""
        shutil.rmtree(self.quick / f"run{self.count}", ignore_errors=True)
        self.count += 1
        run = self.quick / f"run{self.count}"
        if self.template.exists():
            shutil.copytree(self.template, run)
        return run / "checkpoints"

    def calls(self) -> list[tuple[str, int]]:
        """Return the calls from the first that names the folder: kind, and which of that kind."""
        folder, trace = self.fresh(), self.quick / "trace"
        assert self.server.traced(self.scenario, folder, "-o", str(trace)) == 0
        found, seen, touched = [], Counter[str](), False
        for line in trace.read_text().splitlines():
            match = re.match(r"(\w+)\(", line)
            if match:
                seen[match[1]] += 1
                touched = touched or str(folder.parent) in line
                if touched and match[1] != "exit_group":
                    found.append((match[1], seen[match[1]]))
        return found

    def injected(self, kind: str, what: str) -> tuple[Path, int]:
        """Save with something injected, and return the folder and how the process ended."""
        folder = self.fresh()
        options = ("-o", os.devnull, "-e", f"trace={kind}", "-e", f"inject={kind}:{what}")
        return folder, self.server.traced(self.scenario, folder, *options)

    def check(self, folder: Path, where: str, *, saved: bool) -> None:
        """The old or the new checkpoint is there and whole, and the next save works."""
        values = {"next": (2.0, 3.0), "replace": (2.0, 3.0), "first": (None, 3.0)}[self.scenario]
        found = value_of(folder)
        assert found in (values[1:] if saved else values), where
        checkpoint.write(folder, 9, saver.tiny(9.0))
        assert value_of(folder) == 9.0, where
        litter = [path.name for path in folder.iterdir() if path.name.startswith(".tmp")]
        assert litter == [], where


def value_of(folder: Path) -> float | None:
    """Return the number that tells a checkpoint from others, after comparing every part of it."""
    path = checkpoint.newest(folder)
    if path is None:
        return None
    found = checkpoint.read(path)
    value = float(found[checkpoint.TRAINER]["value"])
    assert (found[checkpoint.MODEL]["w"] == value).all()
    assert (found[checkpoint.OPTIMIZER]["w/m"] == -value).all()
    assert found.metrics == {"eval/loss": value}
    return value


SCENARIOS = ["first", "next", "replace"]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_at_every_call(server: Server, quick: Path, scenario: str) -> None:
    case = Case(server, quick, scenario)
    calls = [(kind, n) for kind, n in case.calls() if kind not in PASSIVE]
    assert len({kind for kind, _ in calls} & {"write", "fsync", "mkdir", "rename"}) == 4
    outcomes = Counter[float | None]()
    for kind, n in calls:
        folder, status = case.injected(kind, f"signal=KILL:when={n}")
        assert status == signal.SIGKILL, (kind, n, status)
        outcomes[value_of(folder)] += 1
        case.check(folder, f"killed at {kind} {n}", saved=False)
    assert outcomes[3.0] > 3
    assert sum(outcomes.values()) - outcomes[3.0] > 20


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_an_error_at_every_call(server: Server, quick: Path, scenario: str, error: str) -> None:
    case = Case(server, quick, scenario)
    calls = [(kind, n) for kind, n in case.calls() if kind not in PASSIVE | NEVER_FAIL]
    outcomes = Counter[int]()
    for kind, n in calls:
        lasting = "+" if error == "ENOSPC" else ""  # a disk that is full stays full
        folder, status = case.injected(kind, f"error={error}:when={n}{lasting}")
        where, code = f"{error} at {kind} {n}", os.waitstatus_to_exitcode(status)
        assert code in {0, saver.FAILED}, f"{where}: {server.close()}"
        outcomes[code] += 1
        case.check(folder, where, saved=code == 0)
    assert outcomes[saver.FAILED] > 20

"""Hostile files are opened in a process of their own, which tells what it cost and what it did."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

#: What opens the path, by name; imports are not part of what is measured.
OPENERS = {
    "arrays": ("from tisslm.system.tensor_files import TensorFile", "TensorFile(path)"),
    "model": (
        "from tisslm.models.transformer import Transformer",
        "Transformer.from_pretrained(path)",
    ),
    "checkpoint": (
        "import tokenizers\n"
        "from tisslm import checkpoint\n"
        "from tisslm.workflows.load_model import load_model\n"
        "from tisslm.registry import load_registry\n"
        "registry = load_registry()",
        "checkpoint.read(path); load_model(path, registry=registry)",
    ),
}

CHILD = """
import json, re, signal, sys, time
from tisslm.errors import CheckpointError
{imports}
events = []
WATCHED = ("pickle.", "marshal.", "exec", "compile", "import", "subprocess.", "os.", "socket.")
def watch(event, args):
    if event == "open" or event.startswith(WATCHED):
        events.append([event, str(args[0]) if args else ""])
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
def cost(path):
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak of resident memory begins anew
    before, began = peak(), time.process_time()
    events.clear()
    try:
        {call}
        message = ""
    except CheckpointError as error:
        message = str(error)
    done = list(events)
    return dict(message=message, seconds=time.process_time() - began,
                memory=peak() - before, events=done)
signal.alarm(100)
good, paths = json.load(sys.stdin)
if good:
    cost(good)  # what is imported on first use is imported now
sys.addaudithook(watch)
print(json.dumps({{name: cost(path) for name, path in paths.items()}}))
"""


@dataclass(frozen=True)
class Outcome:
    """What opening a path said ("" for no error), and what it took.

    ``seconds`` are of processor time, ``memory`` is the peak of resident bytes above the start,
    ``events`` are what Python's audit saw: files opened, code imported, compiled or run.
    """

    message: str
    seconds: float
    memory: int
    events: list[tuple[str, str]]


def open_all(
    what: str, paths: Mapping[str, Path], good: Path | None = None, cwd: Path | None = None
) -> dict[str, Outcome]:
    """Open every path with the opener called ``what``, one after another."""
    imports, call = OPENERS[what]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD.format(imports=imports, call=call)],
        input=json.dumps([str(good or ""), {name: str(path) for name, path in paths.items()}]),
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    return {name: Outcome(**found) for name, found in json.loads(done.stdout).items()}


@pytest.fixture(scope="session")
def outcomes() -> Callable[..., dict[str, Outcome]]:
    return open_all

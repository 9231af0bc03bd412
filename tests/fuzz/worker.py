"""A process that reads changed files, one after another, and writes a line for each.

Aborts and hangs end this process and not the one that counts (``running``).
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from fuzz import targets

from tisslm.errors import TissLMError

#: Bytes that a case may ask for; far above what is allowed, so that no case takes the machine's.
ROOM = 2**31

LONGEST_MESSAGE = 3000


def peak() -> int:
    """Return the most resident bytes since ``begin_peak``."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return 1024 * int(found[1]) if found else 0


def begin_peak() -> int:
    """Let the peak of resident memory begin anew, and return it."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def read(readers: Sequence[Callable[[], Any]]) -> tuple[list[str], str]:
    """Call each reader; return what was refused, and the traceback of what is no error of ours."""
    refusals = []
    for reader in readers:
        try:
            reader()
        except TissLMError as error:
            message = str(error)
            if not 0 < len(message) < LONGEST_MESSAGE:
                return refusals, f"a message of {len(message)} characters: {message[:200]!r}"
            refusals.append(message)
        except KeyboardInterrupt:
            raise
        except BaseException:  # a panic of Rust is no Exception
            return refusals, traceback.format_exc()
    return refusals, ""


def measured(target: targets.Target, case: Path) -> dict[str, Any]:
    """Read the files of a case; return what came of it, and what it took."""
    before, began = begin_peak(), time.process_time()
    refusals, failure = read(target.readers(case))
    return {
        "refusals": refusals,
        "failure": failure,
        "seconds": time.process_time() - began,
        "memory": peak() - before,
    }


def main() -> None:
    """Read ``count`` cases from number ``first`` on."""
    name, seed, first, count, base = sys.argv[1:]
    warnings.simplefilter("ignore")
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a reader prints is not a result
    folder = Path(base)
    target = targets.load(name, folder / "good")
    target.copy(folder / "copy")
    refusals, failure = read(target.readers(folder / "copy"))  # imports what is imported on use
    if refusals or failure:
        raise SystemExit(f"{name}: the good files are refused: {refusals or failure}")
    own = re.search(r"VmData:\s+(\d+)", Path("/proc/self/status").read_text())
    room = 1024 * int(own[1] if own else 0) + ROOM
    resource.setrlimit(resource.RLIMIT_DATA, (room, room))
    for i in range(int(first), int(first) + int(count)):
        case = folder / "case"
        shutil.rmtree(case, ignore_errors=True)
        target.change(Random(f"{name} {seed} {i}"), case)
        results.write(json.dumps({"number": i, **measured(target, case)}) + "\n")
        results.flush()


if __name__ == "__main__":
    main()

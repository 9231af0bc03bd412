"""What a benchmark says about the machine, and how it speaks to the user.

What does not live here: any measurement.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any, NoReturn

import psutil

__all__ = ["MAX_THREADS", "describe", "say", "stop", "usable_cores", "warn_if_busy", "write_json"]

MAX_THREADS = 64  # that the kernels take
BUSY = 0.25  # load per thread, before the start, from which on the user is warned


def say(text: str) -> None:
    """Tell the user what goes on, apart from the results."""
    print(text, file=sys.stderr, flush=True)


def stop(sentence: str, code: int) -> NoReturn:
    """End with one sentence on standard error; 1 is a failure, 2 a wrong usage."""
    say(f"{Path(sys.argv[0]).stem}: {sentence}")
    raise SystemExit(code)


def usable_cores() -> int:
    """Count the physical cores that this process may run on, as far as kernels take threads."""
    usable = len(os.sched_getaffinity(0))
    return min(usable, psutil.cpu_count(logical=False) or usable, MAX_THREADS)


def warn_if_busy(threads: int) -> float:
    """Return the load before the start; say so if others use the machine."""
    load = os.getloadavg()[0]
    if load > BUSY * threads:
        say(f"the machine is busy (load {load:.1f}): the figures of this run mean little")
    return load


def describe() -> dict[str, Any]:
    """Return processor, cores and system."""
    return {"cpu": cpu_name(), "cores": os.cpu_count(), "system": platform.platform()}


def cpu_name() -> str:
    """Return the processor's name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def write_json(path: Path | None, document: dict[str, Any]) -> None:
    """Write the file of ``--json``, if there is to be one."""
    if path is not None:
        path.write_text(json.dumps(document, indent=2) + "\n")

"""The machine and the versions that a run is made with, as a file of its directory.

What does not live here: what is wrong with them (``tisslm doctor``).
"""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from tisslm.registry.discovery import tisslm_version

__all__ = ["describe_environment", "processor_model"]

_LIBRARIES = ("numpy", "scipy")
_VARIABLES = ("TISSLM_", "OMP_", "GOMP_", "OPENBLAS_", "MKL_")
_GIB = 2.0**30


def processor_model() -> str:
    """Return what the processor calls itself, or else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def describe_environment() -> dict[str, Any]:
    """Return versions, processor, threads, kernels, memory and variables, as plain values.

    Names of machines and of users are not among them: a report is passed on.
    """
    import psutil

    from tisslm import ops  # doctor works where it cannot be imported

    threads = ops.thread_count()
    return {
        "versions": {
            "tisslm": tisslm_version(),
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in _LIBRARIES},
            "system": platform.platform(),
        },
        "processor": {
            "model": processor_model(),
            "physical_cores": psutil.cpu_count(logical=False),
            "logical_processors": psutil.cpu_count(),
            "usable_processors": len(os.sched_getaffinity(0)),
            "memory_gib": round(psutil.virtual_memory().total / _GIB, 1),
        },
        "threads": {"count": threads.count, "reason": threads.reason},
        "kernels": ops.engine(),
        "variables": {k: os.environ[k] for k in sorted(os.environ) if k.startswith(_VARIABLES)},
    }

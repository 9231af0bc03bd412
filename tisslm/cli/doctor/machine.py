"""The facts that ``tisslm doctor`` prints, in nested tables, and the problems, as sentences.

Every function works on a broken installation, too; facts that cannot be determined are left out.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from tisslm.errors import TissLMError
from tisslm.ops.caches import resolve_caches
from tisslm.ops.threads import resolve_threads
from tisslm.registry import load_registry
from tisslm.registry.discovery import tisslm_version
from tisslm.tracking.environment import processor_model

__all__ = ["examine"]

GIB = 2.0**30
LIBRARIES = ("numpy", "scipy", "tokenizers", "pydantic", "typer", "threadpoolctl")
VARIABLES = ("TISSLM_", "OMP_", "GOMP_", "OPENBLAS_", "MKL_", "BLIS_", "MALLOC_")
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")

Facts = dict[str, Any]


def examine() -> Facts:
    """Return all facts by section; the last section is the list of problems."""
    problems: list[str] = []
    sections: dict[str, Callable[[list[str]], Any]] = {
        "versions": _versions,
        "processor": _processor,
        "threads": _threads,
        "kernels": _kernels,
        "blas": _blas,
        "memory": _memory,
        "plugins": _plugins,
        "environment": _environment,
    }
    found = {name: section(problems) for name, section in sections.items()}
    return {**found, "problems": problems}


def _versions(problems: list[str]) -> Facts:
    found = {"tisslm": tisslm_version(), "python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            problems.append(f"{library} is not installed; run 'pip install tisslm' again")
    return {**found, "system": platform.platform()}


def _processor(problems: list[str]) -> Facts:
    import psutil

    found: Facts = {
        "model": processor_model(),
        "physical_cores": psutil.cpu_count(logical=False),
        "logical_processors": psutil.cpu_count(),
        "usable_processors": len(os.sched_getaffinity(0)),
    }
    try:
        caches = resolve_caches()
    except TissLMError as error:
        problems.append(str(error))
        return found
    return {**found, "caches": str(caches), "caches_reason": caches.reason}


def _threads(problems: list[str]) -> Facts:
    try:
        chosen = resolve_threads()
    except TissLMError as error:
        problems.append(str(error))
        return {}
    return {"count": chosen.count, "reason": chosen.reason}


def _kernels(problems: list[str]) -> Facts:
    """Describe the compiled kernels, or say why there are none."""
    wanted = os.environ.get("TISSLM_OPS", "")
    reference = wanted == "reference"
    if wanted and not reference:  # tisslm.ops refuses it, and is not imported here
        problems.append(f"TISSLM_OPS: expected 'reference' or nothing, got {wanted!r}")
    found: Facts = {"in_use": "NumPy twins (TISSLM_OPS=reference)" if reference else "compiled"}
    try:
        isa = import_module("tisslm._kernels.isa")
        threads = import_module("tisslm._kernels.threads")
    except ImportError as error:
        built = not isinstance(error, ModuleNotFoundError)
        problems.append(
            str(error)
            if built
            else f"the compiled kernels are not built ({error}); run 'pip install .' in the "
            "source folder, or set TISSLM_OPS=reference to use the slow NumPy twins"
        )
        return {**found, "built": built, "in_use": found["in_use"] if reference else "none"}
    version = threads.openmp_version()
    if not version:
        problems.append(
            "the kernels were built without OpenMP and use one core; install a compiler that has "
            "it and build again without TISSLM_NO_OPENMP"
        )
    return {
        **found,
        "built": True,
        "isa": isa.name(),
        "isa_available": list(isa.available()),
        "bf16": "multiplied in pairs" if isa.multiplies_pairs() else "stored, widened to multiply",
        "openmp": version,
        "openmp_processors": threads.processors(),
    }


def _blas(problems: list[str]) -> list[Facts]:
    """Describe each BLAS pool: its threads now, and while the limit of training is on."""
    try:
        for module in ("numpy", "scipy.linalg.cython_blas"):
            import_module(module)
        from threadpoolctl import threadpool_info, threadpool_limits
    except ImportError as error:
        problems.append(f"BLAS cannot be loaded ({error}); install NumPy and SciPy again")
        return []
    free = _pools(threadpool_info())
    with threadpool_limits(limits=1, user_api="blas"):
        limited = _pools(threadpool_info())
    for path, pool in free.items():
        pool["threads_while_training"] = limited[path]["threads"]
        if pool["threads_while_training"] != 1:
            problems.append(
                f"{path}: this BLAS cannot be limited to one thread and will compete with the "
                "kernels' threads; set OMP_NUM_THREADS=1 and TISSLM_NUM_THREADS, or use the "
                "wheels of NumPy and SciPy"
            )
    return list(free.values())


def _pools(info: list[Mapping[str, Any]]) -> dict[str, Facts]:
    return {
        pool["filepath"]: {
            "library": f"{pool['internal_api']} {pool['version']}",
            "architecture": pool.get("architecture", "unknown"),
            "threads": pool["num_threads"],
            "file": Path(pool["filepath"]).name,
        }
        for pool in sorted(info, key=lambda pool: str(pool["filepath"]))  # they come in any order
        if pool["user_api"] == "blas"
    }


def _memory(problems: list[str]) -> Facts:
    import psutil

    memory = psutil.virtual_memory()
    found: Facts = {
        "total_gib": round(memory.total / GIB, 1),
        "available_gib": round(memory.available / GIB, 1),
    }
    limit = _read(MEMORY_LIMIT)
    if limit.isdigit():
        found["control_group_limit_gib"] = round(int(limit) / GIB, 1)
    choice = _read(HUGE_PAGES).partition("[")[2].partition("]")[0]
    found["huge_pages"] = choice or "unknown"
    if choice == "never":
        problems.append(
            "transparent huge pages are switched off, which slows large models down; "
            f"as root: echo madvise > {HUGE_PAGES}"
        )
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _plugins(problems: list[str]) -> Facts:
    """List the distributions that provide parts, with those parts; broken ones are problems."""
    from tisslm.registry.hookspecs import KINDS

    try:
        registry = load_registry()
    except TissLMError as error:
        problems.append(str(error))
        return {}
    found: Facts = {}
    for kind in KINDS:
        for part in registry.entries(kind):
            found[str(part.provider)] = found.get(str(part.provider), 0) + 1
    for plugin in registry.left_out:
        found[str(plugin.provider)] = plugin.status
        if plugin.status == "broken":
            problems.append(f"{plugin}; mend it or {plugin.provider.remedy}")
    return found


def _environment(problems: list[str]) -> Facts:
    return {name: os.environ[name] for name in sorted(os.environ) if name.startswith(VARIABLES)}

"""The number of threads of the kernels, and the limit of BLAS to one thread.

One thread pool works on every array: OpenMP's. BLAS brings pools of its own (SciPy's wheel one,
NumPy's another); two pools that spin against each other cost up to ten times, so both are limited
to one thread when the first model is built, and ``blas_threads`` lifts that for a while.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tisslm.errors import ConfigError

__all__ = ["MAX_THREADS", "ThreadCount", "blas_threads", "limit_blas", "resolve_threads"]

#: OpenBLAS in the wheels aborts beyond this number of concurrent callers.
MAX_THREADS = 64


@dataclass(frozen=True)
class ThreadCount:
    """A number of threads and the reason for it, in words."""

    count: int
    reason: str


def resolve_threads(requested: int | None = None) -> ThreadCount:
    """Choose the number of threads: as requested, else by the environment, else by the machine.

    Parameters
    ----------
    requested : int, optional
        The value of ``training.threads``, which wins over ``TISSLM_NUM_THREADS``.

    Returns
    -------
    ThreadCount

    Raises
    ------
    ConfigError
        If a number is not between 1 and 64; ``OMP_NUM_THREADS`` may be larger, and then counts
        as 64.
    """
    if requested is not None:
        return ThreadCount(_checked(requested, "threads"), "as requested")
    if text := os.environ.get("TISSLM_NUM_THREADS"):
        return ThreadCount(_checked(text, "TISSLM_NUM_THREADS"), f"TISSLM_NUM_THREADS={text}")
    if text := os.environ.get("OMP_NUM_THREADS"):
        return _limited_count(_first_of_levels(text), f"OMP_NUM_THREADS={text}")
    affinity = len(os.sched_getaffinity(0))
    cores = _physical_cores(affinity)
    count, reason = cores, f"{cores} physical cores in the process's affinity"
    quota = _cgroup_quota()
    if quota is not None and quota < count:
        count, reason = quota, f"{quota} processors of the control group's quota"
    return _limited_count(max(1, count), reason)


def _limited_count(count: int, reason: str) -> ThreadCount:
    if count > MAX_THREADS:
        return ThreadCount(MAX_THREADS, f"{reason}, limited to {MAX_THREADS} callers of BLAS")
    return ThreadCount(count, reason)


def _first_of_levels(text: str) -> int:
    """Return the outermost level of ``OMP_NUM_THREADS``, such as 8 of "8,1".

    The variable holds for every OpenMP program of a server, so more than 64 is not an error.
    """
    first = text.split(",")[0].strip()
    if not (first.isascii() and first.isdigit() and int(first)):
        raise ConfigError(
            f"OMP_NUM_THREADS: expected a number of threads >= 1, or such numbers with commas, "
            f"got {text!r}"
        )
    return int(first)


def _checked(value: int | str, where: str) -> int:
    try:
        count = int(value)
    except ValueError:
        count = 0
    if not 1 <= count <= MAX_THREADS:
        raise ConfigError(
            f"{where}: expected a number of threads from 1 to {MAX_THREADS}, got {value!r}"
        )
    return count


def _physical_cores(logical: int) -> int:
    """Count distinct cores among the processors of this process's affinity."""
    cores = set()
    for cpu in os.sched_getaffinity(0):
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            cores.add(
                (
                    (topology / "physical_package_id").read_text().strip(),
                    (topology / "core_id").read_text().strip(),
                )
            )
        except OSError:
            return logical
    return len(cores)


def _cgroup_quota() -> int | None:
    """Return the processors that the control group grants, rounded up, None without a limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()[:2]
    except (OSError, ValueError):
        return None
    if quota == "max":
        return None
    return max(1, math.ceil(int(quota) / int(period)))


_limited = False


def limit_blas() -> None:
    """Limit every BLAS pool of the process to one thread; the first model does this, once.

    SciPy's BLAS must be loaded before the limit can reach it, so it is imported here.
    """
    global _limited
    if _limited:
        return
    import scipy.linalg.cython_blas  # noqa: F401
    from threadpoolctl import threadpool_limits

    threadpool_limits(limits=1, user_api="blas")
    _limited = True


@contextmanager
def blas_threads(count: int) -> Iterator[None]:
    """Let every BLAS pool use ``count`` threads inside the ``with`` block, and one after it."""
    from threadpoolctl import threadpool_limits

    count = _checked(count, "blas_threads")
    # Leaving the block restores what was set at its start: that must be the limit, even if the
    # first model is built inside.
    limit_blas()
    with threadpool_limits(limits=count, user_api="blas"):
        yield

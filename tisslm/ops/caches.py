"""The caches of one core, which products are blocked for; bits do not depend on them.

They are those of the machine, or what ``TISSLM_CACHES`` says. What an emulator makes up, or nobody
tells, is replaced by sizes that every processor with vectors of 256 bits has.

What does not live here: how a product is cut (``_kernels/c/blocking.inc``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tisslm.errors import ConfigError

__all__ = ["CPUS", "SAFE", "VARIABLE", "Caches", "resolve_caches"]

VARIABLE = "TISSLM_CACHES"
CPUS = Path("/sys/devices/system/cpu")

KIB, MIB = 2**10, 2**20
UNIT = {"": 1, "K": KIB, "M": MIB}

#: What a core has, from the smallest to the largest that there are; beyond it, somebody made it up.
LEVEL_1 = (16 * KIB, 256 * KIB)
LEVEL_2 = (128 * KIB, 3 * MIB)


@dataclass(frozen=True)
class Caches:
    """Bytes of one core's caches, and the reason for them, in words.

    Attributes
    ----------
    level_1, level_2 : int
        Of data, and of what this core has of one that several share.
    level_3 : int
        The same, for the reader; products are not blocked for it. 0 where there is none.
    reason : str
    """

    level_1: int
    level_2: int
    level_3: int
    reason: str

    def __str__(self) -> str:
        """Say the sizes for people."""
        third = f", L3 {self.level_3 // KIB} KiB" if self.level_3 else ""
        return f"L1d {self.level_1 // KIB} KiB, L2 {self.level_2 // KIB} KiB{third} of a core"


SAFE = Caches(32 * KIB, 256 * KIB, 0, "safe sizes")


def resolve_caches(
    environment: Mapping[str, str] = os.environ,
    cpus: Path = CPUS,
    processors: Iterable[int] | None = None,
) -> Caches:
    """Choose the sizes: by ``TISSLM_CACHES``, else the machine's, else safe ones.

    Parameters
    ----------
    environment : mapping of str to str, optional
    cpus : Path, optional
        Where Linux describes the processors.
    processors : iterable of int, optional
        Those that the process may use; the least of their caches counts.

    Returns
    -------
    Caches

    Raises
    ------
    ConfigError
        If the variable says sizes that no core has.
    """
    if text := environment.get(VARIABLE):
        return _forced(text)
    numbers = os.sched_getaffinity(0) if processors is None else processors
    told = [_of_processor(cpus / f"cpu{number}" / "cache") for number in sorted(numbers)]
    first, second, third = (min((one[i] for one in told), default=0) for i in range(3))
    reason = f"told by {cpus}"
    if not first and not second:
        first, second = _by_library()
        reason = "told by the C library"
    if not first or not second:
        return Caches(SAFE.level_1, SAFE.level_2, 0, "safe sizes, for the machine tells none")
    if not _plausible(first, second):
        told_sizes = f"L1d {first // KIB} KiB and L2 {second // KIB} KiB"
        reason = f"safe sizes, for the machine tells {told_sizes}, which no core has"
        return Caches(SAFE.level_1, SAFE.level_2, 0, reason)
    return Caches(first, second, third, reason)


def _plausible(first: int, second: int) -> bool:
    within = LEVEL_1[0] <= first <= LEVEL_1[1] and LEVEL_2[0] <= second <= LEVEL_2[1]
    return within and first <= second


def _forced(text: str) -> Caches:
    sizes = [_size(part.strip()) for part in text.split(",")]
    if len(sizes) != 2 or not _plausible(*sizes):
        raise ConfigError(
            f"{VARIABLE}: expected L1d (16K to 256K) and L2 (128K to 3M) of one core, such as "
            f"32K,512K, got {text!r}; correct or unset it"
        )
    return Caches(sizes[0], sizes[1], 0, f"{VARIABLE}={text}")


def _size(text: str) -> int:
    """Return the bytes of a text like 48K; 0 where it is none."""
    found = re.fullmatch(r"([0-9]{1,9})([KM]?)", text)
    return int(found[1]) * UNIT[found[2]] if found else 0


def _of_processor(caches: Path) -> tuple[int, int, int]:
    """Return what a processor has of each level, 0 of one that is not described."""
    found = [0, 0, 0]
    for folder in caches.glob("index[0-9]*"):
        level = _read(folder / "level")
        if level in ("1", "2", "3") and _read(folder / "type") in ("Data", "Unified"):
            cores = _sharing(caches, _read(folder / "shared_cpu_list"))
            found[int(level) - 1] = _size(_read(folder / "size")) // cores
    return found[0], found[1], found[2]


def _sharing(caches: Path, listed: str) -> int:
    """Count the cores of a list like 0-3,8: threads of one core count once."""
    cores: set[str] = set()
    for part in listed.split(","):
        bounds = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", part.strip())
        if bounds:
            for number in range(int(bounds[1]), int(bounds[2] or bounds[1]) + 1):
                topology = caches.parents[1] / f"cpu{number}" / "topology"
                cores.add(_read(topology / "thread_siblings_list") or str(number))
    return max(1, len(cores))


def _by_library() -> tuple[int, int]:
    """Return the C library's sizes, 0 where it has none."""
    try:
        return os.sysconf("SC_LEVEL1_DCACHE_SIZE"), os.sysconf("SC_LEVEL2_CACHE_SIZE")
    except (ValueError, OSError):  # another library than glibc
        return 0, 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""

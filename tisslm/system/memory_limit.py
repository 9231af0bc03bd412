"""How much memory a run may use: the limit of the user, or what is left on the machine.

The memory that a run needs is computed in ``tisslm.training.memory_plan``.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from tisslm.errors import ConfigError
from tisslm.system.quantities import size_text

__all__ = ["MemoryLimit", "memory_left", "parse_size", "resident", "resolve_limit"]

_UNITS = {"": 1}
_UNITS |= {f"{unit}i": 2 ** (10 * i) for i, unit in enumerate("kmgt", 1)}
_UNITS |= {unit: 10 ** (3 * i) for i, unit in enumerate("kmgt", 1)}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")

#: From this limit on, a control group of version 1 means "no limit": 2^63 less a page.
_UNLIMITED = 2**62


@dataclass(frozen=True)
class MemoryLimit:
    """Bytes that may still be allocated, and where the limit comes from, in words."""

    nbytes: int
    source: str


def parse_size(value: object, where: str = "training.memory_limit") -> int:
    """Read a size in bytes.

    Parameters
    ----------
    value : int, float or str
        Bytes, or a number with a unit: KiB, MiB, GiB, TiB (powers of 1024) or kB, MB, GB, TB
        (powers of 1000), in any case, with or without the B.
    where : str
        Name of the setting, for messages.

    Returns
    -------
    int
        At least 1, rounded down.

    Raises
    ------
    ConfigError
        If the value is no such size.

    Examples
    --------
    >>> parse_size("1.5 GiB"), parse_size("500MB"), parse_size(4096)
    (1610612736, 500000000, 4096)
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        if math.isfinite(value) and value >= 1:
            return int(value)
    elif isinstance(value, str):
        match = _SIZE.fullmatch(value)
        factor = match and _UNITS.get(match[2].lower().removesuffix("b"))
        if match and factor and Decimal(match[1]) * factor >= 1:
            return int(Decimal(match[1]) * factor)
    raise ConfigError(
        f"{where}: expected a size such as '8GiB', '500MB' or a number of bytes >= 1, got "
        f"{value!r:.200}; the units are KiB, MiB, GiB, TiB and kB, MB, GB, TB"
    )


def resolve_limit(setting: object) -> MemoryLimit:
    """Return the memory that a run may still allocate under ``training.memory_limit``.

    Parameters
    ----------
    setting : str, int or float
        "" means what the machine has left. A size holds for the whole process, so the memory that
        it has already is subtracted.
    """
    if setting == "":
        return memory_left()
    size = parse_size(setting)
    held = resident()
    source = f"training.memory_limit = {size_text(size)} less {size_text(held)} that are in use"
    return MemoryLimit(max(0, size - held), source)


def resident() -> int:
    """Return the resident memory of this process in bytes, without allocating a read buffer."""
    handle = os.open("/proc/self/statm", os.O_RDONLY)
    try:
        pages = int(os.read(handle, 128).split()[1])
    finally:
        os.close(handle)
    return pages * os.sysconf("SC_PAGE_SIZE")


def memory_left(root: Path = Path("/")) -> MemoryLimit:
    """Return the least memory that the machine or a control group of this process has left.

    The page cache counts as free, because the kernel gives it back.

    Parameters
    ----------
    root : Path
        The folder that holds ``proc`` and ``sys``.
    """
    left = [MemoryLimit(_available(root / "proc/meminfo"), "what the machine has left")]
    for folder, limit, used, cache in _groups(root):
        total = _number(folder / limit)
        if total is not None and total < _UNLIMITED:
            taken = (_number(folder / used) or 0) - _statistic(folder / "memory.stat", cache)
            left.append(
                MemoryLimit(
                    max(0, total - max(0, taken)),
                    f"what the control group {folder} has left of {size_text(total)}",
                )
            )
    return min(left, key=lambda found: found.nbytes)


def _available(meminfo: Path) -> int:
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise ConfigError(
        f"{meminfo}: no MemAvailable in it; set training.memory_limit, such as '8GiB'"
    )


def _groups(root: Path) -> Iterator[tuple[Path, str, str, str]]:
    """Yield each control group above this process: its folder, and the names of its files."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    version_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    version_2 = ("memory.max", "memory.current", "inactive_file")
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            mount, names = root / "sys/fs/cgroup", version_2
        elif "memory" in controllers.split(","):
            mount, names = root / "sys/fs/cgroup/memory", version_1
        else:
            continue
        # In a container, the path may be the host's, and the group itself be mounted at the top.
        inside = Path(path.lstrip("/"))
        for folder in (inside, *inside.parents):
            if (mount / folder / names[0]).is_file():
                yield mount / folder, *names


def _number(path: Path) -> int | None:
    """Return the number in a file; None for "max", or without the file."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _statistic(path: Path, name: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    values = dict(line.split(" ", 1) for line in lines if " " in line)
    return int(values.get(name, 0))

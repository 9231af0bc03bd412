"""Names of the directories in a folder of checkpoints, and whose the unfinished ones are.

``checkpoint-N`` is a checkpoint. ``.tmp-checkpoint-N-PID`` is being written, ``.tmp-old-...`` being
deleted, and ``.tmp-aside-...`` is what another of the same step is about to replace: all three are
litter once their process is dead.

What a directory must hold to be a checkpoint is checked in ``manifest``.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tisslm.system.process_identity import is_of_a_dead_process

__all__ = ["ASIDE", "OLD", "Temporary", "step_of", "target", "temporaries", "temporary", "using"]

OLD = "old-"
ASIDE = "aside-"

_CHECKPOINT = re.compile(r"checkpoint-(\d{1,18})")
_TEMPORARY = re.compile(r"\.tmp-(old-|aside-|)checkpoint-(\d{1,18})-(\d{1,18})")

#: Directories that this process works on now. Its process id alone may be that of a dead process.
_in_use: set[Path] = set()


@dataclass(frozen=True)
class Temporary:
    """An unfinished directory.

    Attributes
    ----------
    path : Path
    kind : str
        "" (being written), ``OLD`` or ``ASIDE``.
    step : int
    pid : int
        The process that made it.
    """

    path: Path
    kind: str
    step: int
    pid: int

    @property
    def is_dead(self) -> bool:
        """True if the process that made it is gone."""
        if self.pid == os.getpid():
            return self.path.absolute() not in _in_use
        return is_of_a_dead_process(self.path, self.pid)


def target(folder: Path, step: int) -> Path:
    """Return the path of the checkpoint of a step."""
    return folder / f"checkpoint-{step}"


def temporary(path: Path, kind: str = "") -> Path:
    """Return this process's temporary path for a checkpoint that it writes, deletes or replaces."""
    return path.with_name(f".tmp-{kind}{path.name}-{os.getpid()}")


def step_of(name: str) -> int | None:
    """Return the step in a checkpoint's name, or None if it is no such name."""
    match = _CHECKPOINT.fullmatch(name)
    return None if match is None else int(match[1])


def temporaries(folder: Path) -> Iterator[Temporary]:
    """Yield the unfinished directories of a folder, those of living processes included."""
    for path in sorted(folder.iterdir()):
        match = _TEMPORARY.fullmatch(path.name)
        if match:
            yield Temporary(path, match[1], int(match[2]), int(match[3]))


@contextlib.contextmanager
def using(*paths: Path) -> Iterator[None]:
    """Mark paths of this process as in use, so that they are not removed as litter."""
    mine = {path.absolute() for path in paths}
    _in_use.update(mine)
    try:
        yield
    finally:
        _in_use.difference_update(mine)

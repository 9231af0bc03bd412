"""What the directories in a folder of checkpoints are called, and whose the unfinished ones are.

``checkpoint-N`` is a checkpoint. ``.tmp-checkpoint-N-PID`` is being written, ``.tmp-old-...`` being
deleted, and ``.tmp-aside-...`` is what another of the same step is about to replace: all three are
litter once their process is dead.

What does not live here: what a directory must hold to be a checkpoint (``manifest``).
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

#: Directories that this process works on now: its number alone may be that of a dead one.
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
        """Whether nobody works on it any more."""
        if self.pid == os.getpid():
            return self.path.absolute() not in _in_use
        return is_of_a_dead_process(self.path, self.pid)


def target(folder: Path, step: int) -> Path:
    """Return the directory of the checkpoint of a step."""
    return folder / f"checkpoint-{step}"


def temporary(path: Path, kind: str = "") -> Path:
    """Return the name of this process for a checkpoint that it writes, deletes or replaces."""
    return path.with_name(f".tmp-{kind}{path.name}-{os.getpid()}")


def step_of(name: str) -> int | None:
    """Return the step in the name of a checkpoint, or None."""
    match = _CHECKPOINT.fullmatch(name)
    return None if match is None else int(match[1])


def temporaries(folder: Path) -> Iterator[Temporary]:
    """Yield the unfinished directories of a folder, of living processes, too."""
    for path in sorted(folder.iterdir()):
        match = _TEMPORARY.fullmatch(path.name)
        if match:
            yield Temporary(path, match[1], int(match[2]), int(match[3]))


@contextlib.contextmanager
def using(*paths: Path) -> Iterator[None]:
    """Keep directories of this process from being taken for litter."""
    mine = {path.absolute() for path in paths}
    _in_use.update(mine)
    try:
        yield
    finally:
        _in_use.difference_update(mine)

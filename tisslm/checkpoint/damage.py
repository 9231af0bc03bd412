"""What is wrong with a checkpoint: which file, what was expected, and what came.

What does not live here: finding it out (``manifest``, ``verification``).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from tisslm.errors import CheckpointError, TissLMError
from tisslm.system.safe_files import CHECKPOINT, Refusal

__all__ = ["Damage", "DamagedError", "Problem"]

_EXPECTED_GOT = re.compile(r"expected (.+?), got (.+)", re.DOTALL)


@dataclass(frozen=True)
class Problem:
    """What is wrong with one file, in words."""

    file: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.file}: expected {self.expected}, got {self.got}"


class DamagedError(CheckpointError):
    """A directory that does not verify.

    Parameters
    ----------
    folder : Path
    problem : Problem
    """

    def __init__(self, folder: Path, problem: Problem) -> None:
        self.folder, self.problem = folder, problem
        super().__init__(
            f"{folder / problem.file}: the checkpoint is damaged or incomplete (expected "
            f"{problem.expected}, got {problem.got}); use an earlier one"
        )


@dataclass(frozen=True)
class Damage(Refusal):
    """A refusal that is damage of the checkpoint in whose directory a file lies.

    Attributes
    ----------
    what : str
        What the file was expected to be, for reasons that do not say.
    """

    error: type[TissLMError] = DamagedError
    verdict: str = CHECKPOINT.verdict
    advice: str = CHECKPOINT.advice
    what: str = "a file"

    def __call__(self, path: str | os.PathLike[str], reason: object) -> DamagedError:
        """Return the exception for a file and a reason."""
        folder, name = Path(path).parent, Path(path).name
        match = _EXPECTED_GOT.fullmatch(str(reason))
        expected, got = match.groups() if match else (self.what, f"one that fails: {reason}")
        return DamagedError(folder, Problem(name, expected, got))

"""A target that takes too much time, then too much memory, for the test of what measures them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any


class Files:
    """Nothing but a loop and a block of memory."""

    def __init__(self, folder: Path) -> None:
        self.taken = 0

    def copy(self, case: Path) -> None:
        case.mkdir(parents=True)

    def change(self, rng: Random, case: Path) -> None:
        self.copy(case)
        self.taken += 1

    def readers(self, case: Path) -> list[Callable[[], Any]]:
        def compute() -> None:
            end = time.process_time() + 2.1
            while time.process_time() < end:
                pass

        return [{2: compute, 3: lambda: b"a" * 600 * 2**20}.get(self.taken, list)]

"""A target that ends its process at the third case, for the test of what counts them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any


class Files:
    """Nothing but an abort."""

    def __init__(self, folder: Path) -> None:
        self.left = 3

    def copy(self, case: Path) -> None:
        case.mkdir(parents=True)

    def change(self, rng: Random, case: Path) -> None:
        self.copy(case)
        self.left -= 1

    def readers(self, case: Path) -> list[Callable[[], Any]]:
        return [lambda: os.abort() if self.left == 0 else None]

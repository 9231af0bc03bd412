"""Modules of ``benchmarks/``, which is a folder of scripts and no package."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """``script("job")``: the module of that file, new for each test; none stays imported."""
    monkeypatch.syspath_prepend(str(FOLDER))
    forget_scripts()  # another folder's tests may have imported some
    yield importlib.import_module
    forget_scripts()


def forget_scripts() -> None:
    """Let each module of the folder be imported anew."""
    for name, module in list(sys.modules.items()):
        origin = getattr(module, "__file__", None)
        if origin and FOLDER in Path(origin).parents:
            del sys.modules[name]

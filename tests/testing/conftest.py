"""What the tests of the checks share: a judge of wrong parts, and plugins that lie in the tree."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tisslm.testing import ConformanceError

PLUGINS = Path(__file__).parents[2] / "plugins"


@pytest.fixture(scope="session")
def refuses() -> Callable[..., None]:
    """``refuses(check, wrong, "the property")``: the check fails, and by that property."""
    return _refuses


def _refuses(check: Callable[..., object], wrong: Any, prop: str, **arguments: Any) -> None:
    with pytest.raises(ConformanceError) as caught:
        check(wrong, **arguments)
    said = str(caught.value)
    assert f": {prop}: expected" in said, said


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], Any]]:
    """``plugin("tisslm_lion", "lion")``: a module of a plugin in ``plugins/``, installed or not."""
    before = set(sys.modules)

    def load(package: str, module: str) -> Any:
        folder = PLUGINS / package.replace("_", "-") / "src"
        if not folder.is_dir():
            pytest.skip(f"{folder} is not in this tree")
        monkeypatch.syspath_prepend(str(folder))
        return importlib.import_module(f"{package}.{module}")

    yield load
    for name in set(sys.modules) - before:
        if name.startswith("tisslm_"):
            del sys.modules[name]

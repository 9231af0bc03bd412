"""Fake distributions: real modules and dist-info folders in a temporary folder on sys.path."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tisslm.registry.discovery import DISABLE_VARIABLE

IMPORTS = "from tisslm import Entry, hookimpl\n"


class FakeSite:
    """A folder that holds what ``pip install`` would have put there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(
        self, distribution: str, version: str, hooks: str, *, point: str = "", **modules: str
    ) -> str:
        """Install a distribution; return the name of its hook module.

        ``hooks`` is the hook module's text after its imports; ``modules`` are further ones.
        """
        hook_module = distribution.replace("-", "_").lower()
        for name, text in {hook_module: IMPORTS + hooks, **modules}.items():
            (self.folder / f"{name}.py").write_text(text)
        self.add_metadata(distribution, version, f"{point or hook_module} = {hook_module}")
        return hook_module

    def add_metadata(self, distribution: str, version: str, points: str) -> Path:
        """Write a dist-info folder whose group ``tisslm`` has these lines."""
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        fields = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        (info / "METADATA").write_text(fields)
        (info / "entry_points.txt").write_text(f"[tisslm]\n{points}\n")
        importlib.invalidate_caches()
        return info

    def add_names(self, distribution: str, version: str, kind: str, *names: str) -> None:
        """Install a distribution that provides names of a kind, whose targets do not exist."""
        lines = "".join(f"    yield Entry({n!r}, 'nowhere:Nothing', 'a part')\n" for n in names)
        hook = {"loss": "losses"}.get(kind, f"{kind}s")
        self.add(distribution, version, f"@hookimpl\ndef tisslm_{hook}():\n{lines}")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSite]:
    """Provide an empty fake site; plugins that are really installed are out of sight."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delenv(DISABLE_VARIABLE, raising=False)
    for name in [name for name in sys.modules if name.startswith("tisslm_")]:
        monkeypatch.delitem(sys.modules, name)  # a real plugin that another test imported
    real = metadata.entry_points

    def only_fakes(**selection: Any) -> list[metadata.EntryPoint]:
        points = real(**selection)
        return [p for p in points if p.dist and Path(str(p.dist.locate_file(""))) == folder]

    monkeypatch.setattr(metadata, "entry_points", only_fakes)
    yield FakeSite(folder)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "") or "").startswith(str(folder)):
            del sys.modules[name]

"""What the tests share: small parquet files, and the package as an installed plugin."""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tisslm import ops

PACKAGE = Path(__file__).parents[1]

#: Documents of different lengths, with characters of one to four bytes.
TEXTS = [f"{i} green bottles, naïve 東京 🙂{' and more' * (i % 5)}.\n" for i in range(40)]

Write = Callable[..., Path]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """The documents that tests write."""
    return TEXTS


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """``write("a.parquet", text=[...])``: a file of these columns, ten rows in a group."""

    def write(name: str, *, group: int = 10, **columns: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path, row_group_size=group)
        return path

    return write


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the package an installed plugin, by the entry point that its project file has."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = tmp_path / "site" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    fields = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(fields)
    points = "".join(f"{k} = {v}\n" for k, v in project["entry-points"]["tisslm"].items())
    (info / "entry_points.txt").write_text(f"[tisslm]\n{points}")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    importlib.invalidate_caches()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Run kernels on one thread: small models are fastest so."""
    ops.set_threads(1)
    yield
    ops.set_threads(None)

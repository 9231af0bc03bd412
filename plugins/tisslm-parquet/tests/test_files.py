"""Which files a path means."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tisslm_parquet.files import find_files

from tisslm.errors import ConfigError, DataError

Write = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, write: Write) -> Path:
    """Files in two folders, with some that are not meant."""
    for name in ("b.parquet", "a.parquet", "in/c.parquet", "_tmp/d.parquet", ".e.parquet"):
        write(name, text=["x"])
    write("in/[1].parquet", text=["x"])
    (tmp_path / "README").write_text("no data")
    return tmp_path


def names(folder: Path, paths: Any) -> list[str]:
    return [str(file.relative_to(folder)) for file in find_files(paths)]


def test_a_folder_is_all_its_files_in_the_order_of_their_paths(folder: Path) -> None:
    assert names(folder, folder) == ["a.parquet", "b.parquet", "in/[1].parquet", "in/c.parquet"]


def test_a_pattern_is_what_it_matches(folder: Path) -> None:
    assert names(folder, f"{folder}/*.parquet") == ["a.parquet", "b.parquet"]
    assert names(folder, f"{folder}/**/[bc].parquet") == ["b.parquet", "in/c.parquet"]


def test_a_name_with_brackets_that_exists_is_no_pattern(folder: Path) -> None:
    assert names(folder, folder / "in" / "[1].parquet") == ["in/[1].parquet"]


def test_a_list_keeps_its_order_and_has_each_file_once(folder: Path) -> None:
    paths = [folder / "in", f"{folder}/*.parquet", folder / "a.parquet"]
    assert names(folder, paths) == ["in/[1].parquet", "in/c.parquet", "a.parquet", "b.parquet"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.parquet", "no such file or folder; check data.path"),
        ("*.arrow", "no file matches this pattern; check data.path"),
        (
            "empty",
            "expected a folder with files named *.parquet, got one without; check data.path",
        ),
    ],
)
def test_a_path_without_files_is_refused(folder: Path, name: str, message: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(DataError) as caught:
        find_files(folder / name)
    assert str(caught.value) == f"{folder / name}: {message}"


@pytest.mark.parametrize("paths", ["", [], [""], 3, [3], {"a": 1}])
def test_what_is_no_path_is_refused(paths: Any) -> None:
    message = (
        "dataset parquet: expected path as a file, a folder, a pattern or a list of them, got "
        f"{paths!r}; set data.path"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        find_files(paths)

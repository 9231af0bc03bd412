"""The page for plugin authors names every check, and its examples run."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from tisslm import testing

PAGE = (Path(__file__).parents[2] / "docs" / "testing-plugins.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_every_public_name_is_on_the_page():
    assert [name for name in testing.__all__ if not re.search(rf"\b{name}\b", PAGE)] == []


def test_every_check_has_a_row_of_properties():
    rows = set(re.findall(r"^\| `(check_\w+)` \|", PAGE, re.MULTILINE))
    several = {"check_all", "check_part", "check_gradients"}
    assert rows == {name for name in testing.__all__ if name.startswith("check_")} - several


@pytest.fixture
def run(tmp_path, monkeypatch, plugin):
    """``run(text)``: import an example as a module; plugins of the tree can be imported."""
    plugin("tisslm_lion", "lion")
    plugin("tisslm_parquet", "dataset")

    def run(text):
        (tmp_path / "page_example.py").write_text(text, encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "page_example", raising=False)
        return importlib.import_module("page_example")

    return run


def test_the_example_of_one_part_runs(run):
    run(EXAMPLES[0]).test_lion_keeps_the_contract_of_optimizers()


def test_the_example_of_every_part_runs(run):
    module = run(EXAMPLES[1])
    (local,) = [p for p in module.PARTS if p.entry.name == "local"]
    module.test_every_part_keeps_its_contract(local)


def test_the_example_of_a_dataset_of_files_runs(run, tmp_path):
    (text,) = [text for text in EXAMPLES if "ParquetDataset" in text]
    folder = tmp_path / "data"
    folder.mkdir()
    run(text).test_parquet_keeps_the_contract_of_datasets(folder)


def test_the_example_of_gradients_runs(run):
    text = EXAMPLES[-1]
    assert "z_loss" in text
    run(text.replace("z_loss", "focal"))  # z_loss may not be installed

"""Rows as records: examples of embedding learning in the columns of a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tisslm_parquet.reader import file_records

from tisslm.config import RunConfig
from tisslm.datasets.sources import BadRecords, ReadOptions
from tisslm.errors import DataError
from tisslm.registry import load_registry
from tisslm.workflows.build.data import load_data

Write = Callable[..., Path]


def load(path: Path, **data: Any) -> Any:
    settings = {"data": {"name": "examples", "path": str(path), **data}}
    config = RunConfig.from_mapping(settings | {"tokenizer": {"name": "byte"}})
    return load_data(config, 32, load_registry())


@pytest.mark.usefixtures("installed")
def test_rows_are_examples(write: Write) -> None:
    path = write(
        "a.parquet",
        anchor=[f"a{i}" for i in range(40)],
        positive=["b"] * 40,
        negative=[["c", "d"]] * 40,
    )
    data = load(path, valid_examples=5)
    assert (len(data.train), len(data.valid)) == (35, 5)
    assert data.train.n_texts == 4
    assert bytes(data.train.texts.ids[-3:].tolist()) == b"bcd"


@pytest.mark.usefixtures("installed")
def test_scores_are_read(write: Write) -> None:
    path = write("a.parquet", sentence1=["a", "b"], sentence2=["c", "d"], score=[0.25, 1.0])
    assert load(path, valid_fraction=0).train.scores.tolist() == [0.25, 1.0]


@pytest.mark.usefixtures("installed")
def test_a_bad_row_is_named(write: Write) -> None:
    path = write("a.parquet", anchor=["a", "b"], positive=["c", None])
    with pytest.raises(DataError) as caught:
        load(path, valid_fraction=0)
    assert str(caught.value) == (
        f"{path}, row group 0, row 1: expected 'positive' to be a text, got null; mend or remove "
        "the record"
    )


def test_a_row_has_all_its_columns_and_its_place(write: Write) -> None:
    path = write("a.parquet", n=list(range(12)), text=["x"] * 12)
    found = list(file_records(path, ReadOptions(bad=BadRecords())))
    assert found[11] == (f"{path}, row group 1, row 11", {"n": 11, "text": "x"})

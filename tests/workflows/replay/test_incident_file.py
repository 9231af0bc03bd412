"""Arrays of a step that was not applied: written by name, and read back as they were."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rows import equal_rows

from tisslm.contracts import Rows
from tisslm.errors import DataError
from tisslm.training.refusals.incident_files import write_file
from tisslm.training.refusals.incidents import IncidentContext, describe
from tisslm.workflows.replay.incident_file import read_incident

IDS = np.arange(6).reshape(2, 3)


def written(folder: Path, rows: Rows) -> Path:
    context = IncidentContext(
        step=4,
        position=5,
        refused_in_a_row=0,
        seed=1,
        rows_per_update=2,
        run_path=folder,
        checkpoints=folder / "checkpoints",
        dataset=None,
        from_file=False,
    )
    path = write_file(describe(context, "spike", rows, 9.0, 1.0), folder)
    assert path is not None
    return path


@pytest.mark.parametrize("start", [None, np.zeros((2, 3), int)])
def test_ids_are_written_as_before_there_were_names(tmp_path: Path, start: np.ndarray) -> None:
    rows = Rows(IDS, IDS + 1, start)
    path = written(tmp_path, rows)
    begins = {} if start is None else {"start": [[0, 0, 0], [0, 0, 0]]}
    assert json.loads(path.read_text())["arrays"] == {
        "x": [[0, 1, 2], [3, 4, 5]],
        "y": [[1, 2, 3], [4, 5, 6]],
        **begins,
    }
    found = read_incident(path).arrays
    assert equal_rows(found, rows)
    assert found.x.dtype == np.int64


def test_other_arrays_are_read_back_with_what_is_not_finite(tmp_path: Path) -> None:
    others = {
        "pair": np.arange(12).reshape(2, 3, 2),
        "score": np.array([[0.1, np.nan], [np.inf, -np.inf]], np.float32),
        "kept": np.array([True, False]),
    }
    found = read_incident(written(tmp_path, Rows(IDS, IDS, others=others))).arrays
    assert list(found.others) == ["pair", "score", "kept"]
    for name, array in others.items():
        np.testing.assert_array_equal(found.others[name], array)  # to the bit, NaN included
    assert [array.dtype for array in found.others.values()] == [np.int64, np.float64, np.bool_]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1.0], "expected arrays of 2 rows, as x has"),
        (7, "expected arrays of 2 rows, as x has"),
        (["a", 1.0], "expected numbers in the array 'score'"),
        ([[1.0, 2.0], [3.0]], "expected numbers in the array 'score'"),
        (json.loads("[" * 60 + "1" + "]" * 60), "expected arrays of 2 rows, as x has"),
        ([None, {}], "expected numbers in the array 'score'"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(
    tmp_path: Path, value: object, message: str
) -> None:
    path = written(tmp_path, Rows(IDS, IDS))
    content = json.loads(path.read_text())
    content["arrays"]["score"] = value
    path.write_text(json.dumps(content))
    with pytest.raises(DataError) as caught:
        read_incident(path)
    assert message in str(caught.value)

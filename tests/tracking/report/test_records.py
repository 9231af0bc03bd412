"""Lines of metrics: every kind of value; what is damaged is named, and costs nothing else."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metric_lines import histogram, line

from tisslm.errors import DataError
from tisslm.system import safe_files
from tisslm.tracking import metric_lines as cutting
from tisslm.tracking.report import records
from tisslm.tracking.report.records import Problems, read_metrics


def read(tmp_path: Path, content: str | bytes) -> tuple[records.Metrics, list[str]]:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    problems = Problems()
    found = read_metrics(path, problems)
    return found, [sentence.replace(str(tmp_path), "") for sentence in problems.sentences]


def test_every_kind_of_value(tmp_path):
    values = np.array([0.0, 1.0, 1.0, 3.0])
    found, problems = read(
        tmp_path,
        line({"step": 1, "a": 2, "b": 0.5, "h": histogram(values, 3), "t": {"text": "once"}})
        + line({"step": 2, "a": math.nan, "b": -math.inf}),
    )
    assert problems == []
    assert found.scalars["a"].x.tolist() == [1, 2]
    assert found.scalars["b"].y.tolist() == [0.5, -math.inf]
    assert math.isnan(found.scalars["a"].y[1])
    ((step, seen),) = found.histograms["h"]
    assert (step, seen.counts.tolist(), seen.edges.tolist()) == (1, [1, 2, 1], [0, 1, 2, 3])
    assert (seen.total, seen.squares) == (5.0, 11.0)
    assert found.texts == {"t": [(1, "once")]}


GOOD = '{"step": 1, "a": 1.0}\n'
LEFT_OUT = "left out (%s); the other lines are used"


@pytest.mark.parametrize(
    ("bad", "where", "reason"),
    [
        ('{"step": 2, "a": \n', "", "expected JSON: Expecting value: line 2 column 1 (char 18)"),
        ("[1, 2]\n", "", "expected a JSON object, got a list"),
        ("\n", "", "expected JSON: Expecting value: line 2 column 1 (char 1)"),
        ('{"a": 1.0}\n', "", "expected a step, an integer, got 'None'"),
        ('{"step": "2", "a": 1.0}\n', "", "expected a step, an integer, got '2'"),
        ('{"step": true, "a": 1.0}\n', "", "expected a step, an integer, got 'True'"),
        ('{"step": -1, "a": 1.0}\n', "", "expected a step, an integer, got '-1'"),
        ('{"step": 2, "a": 1, "a": 2}\n', "", "the key 'a' is there twice"),
        ('{"step": 2, "a": NaN}\n', "", "expected numbers as JSON has them, got NaN"),
        ('{"step": 2, "a": 5', "", "expected a whole line, got one without its end"),
        ('{"step": 2, "b": [1]}\n', ", metric 'b'",
         "expected a number, a histogram or a text, got '[1]'"),
        ('{"step": 2, "b": "Inf"}\n', ", metric 'b'",
         "expected a number, a histogram or a text, got 'Inf'"),
        ('{"step": 2, "b": true}\n', ", metric 'b'",
         "expected a number, a histogram or a text, got 'True'"),
        (f'{{"step": 2, "b": 1{"0" * 400}}}\n', "",
         "expected an integer that float64 has, got one of 401 digits"),
        (f'{{"step": 2, "b": {"9" * 5000}}}\n', "",
         "expected an integer that float64 has, got one of 5000 digits"),
        ('{"step": 2, "b": {"text": 5}}\n', ", metric 'b'", "expected text, got '5'"),
        ('{"step": 2, "b": {"mean": 5}}\n', ", metric 'b'",
         "expected a text, or a histogram with edges, got \"['mean']\""),
        ('{"step": 2, "b": {"edges": [0], "counts": [1], "total": 0, "squares": 0}}\n',
         ", metric 'b'", "expected one edge more than counts, got 1 edges and 1 counts"),
        ('{"step": 2, "b": {"edges": [1, 0], "counts": [1], "total": 0, "squares": 0}}\n',
         ", metric 'b'", "expected finite edges that ascend"),
        ('{"step": 2, "b": {"edges": [0, "NaN"], "counts": [1], "total": 0, "squares": 0}}\n',
         ", metric 'b'", "expected finite edges that ascend"),
        ('{"step": 2, "b": {"edges": [0, 1], "counts": [-1], "total": 0, "squares": 0}}\n',
         ", metric 'b'", "expected counts, integers of at least 0"),
    ],
)  # fmt: skip
def test_what_is_damaged_is_named_and_the_rest_is_read(tmp_path, bad, where, reason):
    found, problems = read(tmp_path, GOOD + bad if not bad.endswith("\n") else GOOD + bad + GOOD)
    assert problems == [f"/metrics.jsonl, line 2{where}: {LEFT_OUT % reason}"]
    assert found.scalars["a"].y.tolist() == [1.0]
    assert "b" not in found.scalars


def test_bytes_that_are_no_text(tmp_path):
    found, problems = read(tmp_path, GOOD.encode() + b'{"step": 2, "a": "\xff"}\n')
    reason = "expected UTF-8, got byte 0xff at offset 18"
    assert problems == [f"/metrics.jsonl, line 2: {LEFT_OUT % reason}"]
    assert len(found.scalars["a"]) == 1


def test_a_line_that_is_too_long_takes_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(cutting, "LONGEST_LINE", 64)
    monkeypatch.setattr(safe_files, "_BLOCK", 16)
    long = json.dumps({"step": 2, "a": 1.0, "x" * 100: 1.0}) + "\n"
    found, problems = read(tmp_path, GOOD + long + '{"step": 3, "a": 3.0}\n')
    assert problems == [f"/metrics.jsonl, line 2: {LEFT_OUT % 'expected at most 64 bytes'}"]
    assert found.scalars["a"].x.tolist() == [1, 3]


@given(block=st.integers(1, 60))
def test_lines_do_not_depend_on_how_the_file_is_cut(tmp_path_factory, block):
    path = tmp_path_factory.mktemp("cut") / "metrics.jsonl"
    path.write_text("".join(line({"step": s, "a": s / 7}) for s in range(9)))
    whole = read_metrics(path, Problems())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(safe_files, "_BLOCK", block)
        cut = read_metrics(path, Problems())
    assert cut.scalars["a"].y.tolist() == whole.scalars["a"].y.tolist()
    assert len(cut.scalars["a"]) == 9


def test_an_empty_file_has_no_metrics(tmp_path):
    found, problems = read(tmp_path, "")
    assert (found.scalars, found.texts, problems) == ({}, {}, [])


def test_many_problems_are_counted(tmp_path):
    _, problems = read(tmp_path, "nothing\n" * 30)
    assert len(problems) == Problems.MOST + 1
    assert problems[-1] == "and 10 more"


def test_names_are_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "MOST_NAMES", 2)
    content = (
        '{"step": 1, "a": 1, "b": {"text": "x"}, "c": 2, "d": 3}\n{"step": 2, "a": 2, "c": 2}\n'
    )
    found, problems = read(tmp_path, content)
    reason = "expected at most 2 different names"
    assert problems == [f"/metrics.jsonl, line 1, metric 'c': {LEFT_OUT % reason}"]
    assert (len(found.scalars["a"]), list(found.texts), len(found.scalars)) == (2, ["b"], 1)


def test_long_texts_and_many_looks_are_cut(tmp_path):
    lines = [line({"step": s, "t": {"text": f"{s}" * 5000}}) for s in range(1, 201)]
    found, _ = read(tmp_path, "".join(lines))
    looks = found.texts["t"]
    assert len(looks) <= records.MOST_LOOKS
    assert (looks[0][0], looks[-1][0]) == (1, 200)
    assert looks[0][1] == "1" * records.LONGEST_TEXT + " ..."


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(DataError, match=r"expected a regular file, got a FIFO\); give the dir"):
        read_metrics(tmp_path / "metrics.jsonl", Problems())

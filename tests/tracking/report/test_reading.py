"""A run directory: what must be there, what may be missing, what is damaged."""

from __future__ import annotations

import json

import pytest
from metric_lines import write_run

from tisslm.checkpoint.owner import FILE, Owner
from tisslm.errors import DataError
from tisslm.tracking.report.reading import read_run

ROW = {"step": 4, "train/loss": 2.0}


def test_a_whole_run(tmp_path):
    run = read_run(write_run(tmp_path / "first", [ROW]))
    assert (run.label, run.state, run.last_step) == ("first", "completed", 4)
    assert run.setting("training", "max_steps") == 60
    assert run.setting("training", "nothing") is None
    assert run.setting("nothing", "max_steps") is None
    assert run.environment["threads"] == {"count": 2}
    assert run.problems.sentences == []


def test_an_old_run_has_only_its_metrics(tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "metrics.jsonl").write_text('{"step": 1, "train/loss": 2.0}\n')
    run = read_run(folder, "mine")
    assert (run.label, run.state) == ("mine", "not known")
    assert (run.config, run.summary, run.environment) == ({}, {}, {})
    assert run.problems.sentences == []


def test_how_a_run_ended(tmp_path):
    stopped = write_run(
        tmp_path / "a", [ROW], summary={"status": "stopped", "stopped_by": "SIGTERM"}
    )
    assert read_run(stopped).state == "stopped (SIGTERM)"


def test_damaged_small_files_are_named_and_left_out(tmp_path):
    folder = write_run(tmp_path / "run", [ROW], config="[training\n")
    (folder / "summary.json").write_text('{"status": ')
    run = read_run(folder)
    assert (run.config, run.summary, run.state) == ({}, {}, "not known")
    config, summary = (s.replace(str(folder), "") for s in run.problems.sentences)
    assert config.startswith("/config.resolved.toml: left out of the report (")
    assert config.endswith("); the other files are used")
    assert summary.startswith("/summary.json: left out of the report (expected JSON: Expecting")


def test_values_of_another_kind_are_no_reason_to_fail(tmp_path):
    folder = write_run(
        tmp_path / "run", [ROW], config="training = 3\nlog = 4\n", summary={"status": 5}
    )
    run = read_run(folder)
    assert (run.state, run.setting("training", "max_steps")) == ("not known", None)


def test_metrics_of_another_name_are_found_in_the_directory_only(tmp_path):
    folder = write_run(tmp_path / "run", [ROW], config='[log.jsonl]\npath = "m.jsonl"\n')
    (folder / "metrics.jsonl").rename(folder / "m.jsonl")
    assert read_run(folder).last_step == 4
    for path in ("../m.jsonl", "/etc/passwd", "..", ""):
        (folder / "config.resolved.toml").write_text(f'[log.jsonl]\npath = "{path}"\n')
        with pytest.raises(DataError, match=r"expected metrics.jsonl of a run, got none"):
            read_run(folder)


def test_what_is_no_run(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(DataError) as caught:
        read_run(tmp_path / "nowhere")
    expected = "nowhere: expected the directory of a run, got nothing there; name one of runs/"
    assert str(caught.value) == f"{tmp_path}/{expected}"
    with pytest.raises(DataError, match=r"expected the directory of a run, got a file; name one"):
        read_run(file)
    with pytest.raises(DataError) as caught:
        read_run(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: expected metrics.jsonl of a run, got none; give the directory of a run whose "
        'log.sinks had "jsonl"'
    )


def test_the_metrics_are_where_the_run_was_told_to_write_them(tmp_path):
    folder = write_run(tmp_path / "run", [ROW], config='[log.jsonl]\npath = "logs/m.jsonl"\n')
    (folder / "logs").mkdir()
    (folder / "metrics.jsonl").rename(folder / "logs" / "m.jsonl")
    assert read_run(folder).scalars


def test_a_trainer_that_is_at_work_is_told_from_one_that_was_killed(tmp_path):
    folder = write_run(tmp_path / "run", [ROW])
    with Owner(folder):
        assert read_run(folder).state == "at work"
        left = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps(left | {"ticks": left["ticks"] + 1}))
    assert read_run(folder).state == "killed"

"""``tisslm train --profile N``: a trace in the run directory, and a table at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chrome_trace import check_trace

from tisslm.contracts import Rows
from tisslm.errors import NonFiniteError
from tisslm.training.session import Session
from tisslm.training.step import StepResult

if TYPE_CHECKING:
    from conftest import Cli


def test_a_profile_leaves_a_trace_and_prints_its_table(train: Cli, folder: Path) -> None:
    result = train("training.output_dir=run", more=("--profile", "2"))
    assert (result.code, result.err) == (0, "")
    after = result.out[result.out.index("profile of steps 4 to 5: ") :]
    assert "\nlinear_backward_weight " in after
    assert "\nall kernels " in after
    assert "\nattention backward " in after
    shown = "\ntrace: run/trace.json (open it in https://ui.perfetto.dev)\n"
    assert shown in after
    assert after.index(shown) < after.index("\nsample:\n")
    trace = check_trace((folder / "run" / "trace.json").read_text())
    names = [event.name for event in trace.traceEvents]
    assert names.count("step 4") == names.count("step 5") == 1
    assert "step 3" not in names
    assert "step 6" not in names


def test_it_is_a_setting_like_any_other(train: Cli, folder: Path) -> None:
    assert train("training.output_dir=a", "training.profile_steps=1").code == 0
    assert (folder / "a" / "trace.json").exists()
    assert "\nprofile_steps = 1\n" in (folder / "a" / "config.resolved.toml").read_text()


def test_a_run_without_it_has_neither_trace_nor_table(train: Cli, folder: Path) -> None:
    result = train("training.output_dir=run", more=("--profile", "0"))
    assert "profile of" not in result.out
    assert not (folder / "run" / "trace.json").exists()


def test_a_run_that_fails_shows_what_was_recorded(
    train: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Session.train_step

    def failing(self: Session, batch: Rows) -> StepResult:
        if self.state.step == 4:
            raise NonFiniteError("step 5: the loss is nan")
        return step(self, batch)

    monkeypatch.setattr(Session, "train_step", failing)
    result = train("training.output_dir=run", "training.max_steps=9", more=("--profile", "3"))
    assert result.code == 4
    assert "profile of step 4: " in result.out
    assert result.err.endswith("error: step 5: the loss is nan\n")


def test_a_profile_may_be_asked_for_when_a_run_goes_on(train: Cli, folder: Path) -> None:
    assert train("training.max_steps=6").code == 0
    (run,) = (folder / "runs").iterdir()
    assert not (run / "trace.json").exists()
    result = train(more=("--resume", "auto", "--profile", "1"))
    assert result.code == 0
    assert [p.name for p in (folder / "runs").iterdir()] == [run.name]  # the same run, complete


@pytest.mark.parametrize("value", ["-1", "two"])
def test_a_number_that_is_none_is_a_wrong_usage(train: Cli, value: str) -> None:
    result = train(more=("--profile", value))
    assert result.code == 2
    assert "--profile" in result.err

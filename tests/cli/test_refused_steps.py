"""A run that loses its numbers ends with exit code 4, and says how to see that again."""

from __future__ import annotations

import json
import shlex

import pytest

#: Warnings are printed, as outside of tests.
PRINTED = pytest.mark.filterwarnings("always")

DIVERGING = (
    "optimizer.name=sgd",
    "scheduler.name=constant",
    "training.learning_rate=1e30",
    "training.output_dir=run",
)


@PRINTED
def test_a_diverging_run_ends_with_code_4_and_a_command_that_repeats_it(cli, train, folder):
    result = train(*DIVERGING)
    assert result.code == 4
    assert result.err.count("warning: step 2: the loss is 3.3673 and the gradient norm nan") == 2
    assert "error: step 2: the loss is 3.3673 and the gradient norm nan; the 3 steps in a row" in (
        result.err
    )
    command = shlex.split(result.err.partition("To make it again: ")[2])
    assert command[:3] == ["tisslm", "train", "run/config.resolved.toml"]
    again = cli(*command[1:])
    assert again.code == 4
    for number in ("", "-2", "-3"):
        first, second = (
            json.loads((folder / run / f"nonfinite-step-2{number}.json").read_text())
            for run in ("run", "run/replay")
        )
        assert first.pop("command") != second.pop("command")
        assert first == second
    assert not list((folder / "run" / "checkpoints").iterdir())


@PRINTED
def test_stop_at_the_first(train):
    result = train(*DIVERGING, "training.terminate_on_nan=true")
    assert result.code == 4
    assert "note: training.terminate_on_nan = true is read as training.on_nonfinite" in result.err
    assert "warning" not in result.err

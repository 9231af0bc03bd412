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
def test_a_diverging_run_ends_with_code_4_and_a_command_that_repeats_it(cli, train, folder, files):
    result = train(*DIVERGING)
    assert result.code == 4
    assert result.err.count("warning: step 2: the loss is 3.3673 and the gradient norm nan") == 2
    assert "; the 3 steps in a row that were not applied end the run; " in result.err
    command = shlex.split(result.err.partition("To make it again: ")[2])
    assert command == ["tisslm", "replay", "run", "--file", "run/nonfinite-step-2-3.json"]
    before = files()
    for number in ("", "-2", "-3"):
        file = f"run/nonfinite-step-2{number}.json"
        again = cli("replay", "run", "--file", file, "--json")
        done, known = json.loads(again.out), json.loads((folder / file).read_text())
        assert (again.code, done["same"], done["fault_is_same"]) == (0, True, True)
        assert done["finding"] == known["finding"]
        assert done["steps"][-1]["position"] == known["position"]
    assert files() == before


@PRINTED
def test_stop_at_the_first(train):
    result = train(*DIVERGING, "training.terminate_on_nan=true")
    assert result.code == 4
    assert "note: training.terminate_on_nan = true is read as training.on_nonfinite" in result.err
    assert "warning" not in result.err

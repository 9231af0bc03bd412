"""``tisslm replay``: the words, the exit code, and that nothing of a run is touched."""

from __future__ import annotations

import json

import pytest

SAVED = ("training.save_every=2", "training.keep_checkpoints=0", "training.output_dir=run")
PRINTED = pytest.mark.filterwarnings("always")


@pytest.fixture
def run(train, folder):
    assert train(*SAVED, "model.dropout=0.1").code == 0
    return folder / "run"


def test_a_step_is_made_again_with_its_statistics(cli, run, files):
    before = files()
    result = cli("replay", "run", "--step", "4")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0] == "run: making step 4 again, from run/checkpoints/checkpoint-2"
    for line, step in zip(lines[1:3], (3, 4), strict=True):
        assert line.startswith(f"step {step} | loss 3.")
        assert line.endswith("in final_norm | as on record, bit for bit")
    assert "\n\nforward " in result.out
    assert "\n\nbackward " in result.out
    assert lines[-1] == (
        "run/checkpoints/checkpoint-4: parameters and optimizer state are the same, bit for bit"
    )
    assert files() == before


def test_a_replay_in_json(cli, run):
    result = cli("replay", "run", "--step", "1", "--json")
    found = json.loads(result.out)
    first = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert result.code == 0
    assert found["start"] == ""
    assert found["steps"][0]["loss"] == first["train/loss"]
    assert found["steps"][0]["recorded_grad_norm"] == first["train/grad_norm"]
    assert {"place", "direction", "array", "mean", "absmax"} <= set(
        found["steps"][0]["statistics"][0]
    )


def test_what_differs_is_said_with_both_numbers_and_exit_code_1(cli, run):
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines()
    line = json.loads(lines[2])
    then = (line["train/loss"], line["train/grad_norm"])
    line["train/loss"] = 3.0
    path.write_text("\n".join([*lines[:2], json.dumps(line), *lines[3:]]))
    result = cli("replay", "run", "--step", "3")
    assert result.code == 1
    assert (
        f"| DIFFERS: loss and norm are {then[0]!r}, {then[1]!r}, and on record 3.0, {then[1]!r}\n"
    ) in result.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "replay: run: every step was applied; choose the step to make again with --step"),
        (
            ("--step", "2", "--file", "x.json"),
            "replay: expected --step or --file, got both; keep one of the two",
        ),
        (("--step", "7"), "replay: expected a step from 1 to 6, the last of the run, got 7"),
        (("--step", "-1"), "replay: expected a step from 1 to 6, the last of the run, got -1"),
    ],
)
def test_wrong_uses(cli, run, arguments, message):
    result = cli("replay", "run", *arguments)
    assert result.err == f"error: {message}\n"
    assert result.code == 3


def test_a_folder_that_is_no_run(cli, folder):
    result = cli("replay", str(folder), "--step", "1")
    assert result.code == 3
    assert result.err == (
        f"error: replay: {folder}: expected the directory of a run with its config.resolved.toml, "
        "found none; give that of tisslm train\n"
    )


def test_a_run_that_was_composed_in_python(cli, folder):
    (folder / "run").mkdir()
    (folder / "run" / "config.resolved.toml").write_text("[training]\nbatch_size = 2\n")
    result = cli("replay", "run", "--step", "1")
    assert result.code == 3
    assert result.err == (
        "error: replay: run: this run was composed in Python, and no file has all of it; build its "
        "Trainer as then, and call tisslm.workflows.replay.replay(trainer, step)\n"
    )


@PRINTED
@PRINTED
def test_a_run_that_went_on_is_made_again_over_where_it_was_cut(cli, train, run):
    more = train(*SAVED, "model.dropout=0.1", "training.resume=run", "training.max_steps=8")
    assert more.code == 0
    for step in ("7", "8"):
        assert cli("replay", "run", "--step", step).code == 0


def test_sinks_monitors_and_evaluations_of_the_run_are_not_needed(cli, train):
    settings = ("training.log_gradients=true", 'log.sinks=["csv", "jsonl"]')
    held = ("training.validation_frequency=2", "training.keep_best=1")
    assert train(*SAVED, *settings, *held).code == 0
    result = cli("replay", "run", "--step", "5")
    assert (result.code, result.err) == (0, "")


@PRINTED
@pytest.mark.parametrize("half", [(), ("training.precision=fp16", "training.loss_scale=1")])
def test_a_step_that_was_not_finite_is_looked_into(cli, train, half):
    result = train(
        *SAVED,
        *half,
        "optimizer.name=sgd",
        "scheduler.name=constant",
        "training.learning_rate=1e30",
        "training.gradient_accumulation_steps=2",
        "training.activation_checkpointing=full",
        "training.on_nonfinite=stop",
    )
    assert result.code == 4
    said = result.err.partition("; first in ")[2].partition("; the parameters")[0]
    again = cli("replay", "run")
    assert again.code == 0
    assert f"\nfirst in {said}\nas the run found it\n" in again.out
    assert "step 2, not applied | " in again.out
    assert " not finite\n" in again.out or "nan" in again.out

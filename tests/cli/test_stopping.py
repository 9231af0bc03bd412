"""``tisslm train`` that ends early, learns few batches, or only tries."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from interruptions import differences

if TYPE_CHECKING:
    from conftest import Cli, Files

#: One improvement is enough for the first evaluation, and none for the others.
ENDS_EARLY = (
    "training.validation_frequency=2",
    "training.early_stopping_patience=2",
    "training.early_stopping_min_delta=9",
    "training.max_steps=20",
)


@pytest.mark.filterwarnings("ignore::tisslm.config.ConfigNote")
def test_it_says_why_it_ended_and_stays_ended(train: Cli, folder: Path) -> None:
    result = train(*ENDS_EARLY, "training.output_dir=run", "training.restore_best=true")
    assert (result.code, result.err) == (0, "")
    loss = json.loads((folder / "run/summary.json").read_text())["best"]["value"]
    assert re.search(
        r"^stopped early: eval/loss: of the last 2 evaluations, none was better than [\d.]+ by "
        rf"more than 9\nbest: eval/loss {loss:.6g} at step 6, the step whose parameters are used "
        r"from here on\nrun: run\nmore of it: tisslm generate run/best$",
        result.out,
        flags=re.MULTILINE,
    )
    again = train(
        *ENDS_EARLY,
        "training.output_dir=run",
        "training.restore_best=true",
        more=("--resume", "auto"),
    )
    assert again.code == 0
    assert "run: run, complete at step 6\n" in again.out


@pytest.mark.filterwarnings("ignore::tisslm.config.ConfigNote")
def test_the_table_of_other_trainers_is_read(cli: Cli, folder: Path) -> None:
    (folder / "run.toml").write_text(
        '[early_stopping]\nmonitor = "val_loss"\nmode = "min"\npatience = 4\nmin_delta = 0.1\n'
        "restore_best_weights = true\n"
        '[data]\npath = "text.txt"\n'
        "[model]\nn_layer = 1\nn_head = 1\nn_embd = 8\nseq_len = 8\n"
        '[training]\nmax_steps = 2\noutput_dir = "run"\n'
    )
    result = cli("train", "run.toml")
    assert result.code == 0
    text = (folder / "run/config.resolved.toml").read_text()
    for line in (
        'best_metric = "eval/loss"',
        'best_mode = "min"',
        "early_stopping_patience = 4",
        "early_stopping_min_delta = 0.1",
        "restore_best = true",
    ):
        assert line in text.splitlines()


def test_one_batch_is_learned(train: Cli) -> None:
    result = train(
        "training.output_dir=run",
        "training.max_steps=60",
        "training.learning_rate=0.02",
        more=("--overfit-batches", "1"),
    )
    assert (result.code, result.err) == (0, "")
    found = re.search(r"^loss of the same 4 windows: ([\d.]+) -> ([\d.]+)$", result.out, re.M)
    assert found
    assert float(found[1]) > 3.0 > 1.0 > float(found[2])


def test_a_dry_run_writes_nothing(train: Cli, files: Files) -> None:
    before = files()
    result = train(more=("--dry-run",))
    assert (result.code, result.err) == (0, "")
    assert files() == before
    lines = result.out.splitlines()
    assert [line.partition(":")[0] for line in lines[-5:]] == [
        "steps",
        "evaluation",
        "checkpoints",
        "the run",
        "dry run",
    ]
    assert lines[-1] == "dry run: nothing was written"


def test_a_dry_run_finds_what_training_would_find(train: Cli) -> None:
    result = train("optimizer.beta3=0.5", more=("--dry-run",))
    assert (result.code, result.out) == (3, "")


def test_killed_at_any_time_the_same_command_ends_the_same_run(folder: Path) -> None:
    """SIGKILL once after the first checkpoint: early stopping, plateau and best as without it."""
    settings = [
        "data.path=text.txt",
        "model.n_layer=1",
        "model.n_head=2",
        "model.n_embd=16",
        "model.seq_len=16",
        "scheduler.name=reduce_on_plateau",
        "scheduler.patience=1",
        "scheduler.factor=0.5",
        "scheduler.min_delta=0.05",
        "training.batch_size=4",
        "training.learning_rate=0.02",
        "training.max_steps=400",
        "training.validation_frequency=5",
        "training.early_stopping_patience=4",
        "training.early_stopping_min_delta=0.02",
        "training.restore_best=true",
        "training.save_every=10",
        "log.sinks=jsonl",
    ]
    flags = [x for setting in settings for x in ("--set", setting)]

    def begin(run: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tisslm", "train", *flags]
        return subprocess.Popen(
            [*command, "--set", f"training.output_dir={run}", "--resume", "auto"],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "TISSLM_NUM_THREADS": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    whole = begin("whole")
    killed = begin("killed")
    end = time.monotonic() + 60
    while not list((folder / "killed" / "checkpoints").glob("checkpoint-*/manifest.json")):
        assert time.monotonic() < end
        assert killed.poll() is None
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    again = begin("killed")
    assert (whole.wait(), again.wait()) == (0, 0), again.communicate()
    summaries = [
        json.loads((folder / run / "summary.json").read_text()) for run in ("whole", "killed")
    ]
    for key in ("status", "stopped_by", "steps", "train_loss", "eval_loss", "best"):
        assert summaries[0][key] == summaries[1][key], key
    assert summaries[0]["steps"] < 400
    assert not differences(folder / "whole", folder / "killed")
    assert "of the last 4 evaluations" in summaries[0]["stopped_by"]
    outs = [process.communicate()[0] for process in (whole, again)]
    assert all("stopped early: eval/loss" in out for out in outs)

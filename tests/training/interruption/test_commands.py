"""``tisslm train`` under signals, time limits and kill -9: exit codes, words, and the same run."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from interruptions import OF_THE_MACHINE

SETTINGS = (
    "data.path=text.txt",
    "model.n_layer=1",
    "model.n_head=1",
    "model.n_embd=16",
    "model.seq_len=16",
    "model.dropout=0.1",
    "training.batch_size=4",
    "training.max_steps=400",
    "training.save_every=20",
    "training.validation_frequency=20",
    "training.name=mine",
    "training.threads=1",
    "log.sinks=jsonl,csv",
)
TIMES = (*OF_THE_MACHINE, "memory/", "monitor/")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Path:
    """Make a folder with a text."""
    text = "".join(f"{i} green bottles hang on the wall.\n" for i in range(60))
    (tmp_path / "text.txt").write_text(text)
    return tmp_path


def start(
    folder: Path, *more: str, program: tuple[str, ...] = ("-m", "tisslm"), **environment: str
) -> subprocess.Popen[str]:
    flags = [x for setting in (*SETTINGS, *more) for x in ("--set", setting)]
    return subprocess.Popen(
        [sys.executable, *program, "train", *flags, "--resume", "auto"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def metrics(folder: Path) -> Path | None:
    return next(folder.glob("runs/*/metrics.jsonl"), None)


def wait_for_lines(folder: Path, process: subprocess.Popen[str], count: int) -> None:
    """Wait until a run has written so many lines."""
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        path = metrics(folder)
        if path and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.01)
    raise AssertionError(process.communicate())


def lines(path: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith(TIMES)} for line in found]


def test_signals_and_kills_lose_nothing(folder, tmp_path_factory):
    whole = tmp_path_factory.mktemp("whole")
    (whole / "text.txt").write_text((folder / "text.txt").read_text())
    reference = start(whole)

    first = start(folder)  # killed before its first checkpoint: the directory is used again
    wait_for_lines(folder, first, 3)
    first.kill()
    assert first.communicate()[0]
    second = start(folder)
    wait_for_lines(folder, second, 30)
    second.send_signal(signal.SIGTERM)
    out, err = second.communicate(timeout=60)
    step = json.loads(next(folder.glob("runs/*/summary.json")).read_text())["steps"]
    assert second.returncode == 75, err
    assert err.splitlines()[-2:] == [
        f"SIGTERM: saving at step {step}; a second signal stops at once",
        f"saved at step {step}; the same command with --resume auto goes on",
    ]
    assert "taken over from process" in err.splitlines()[0]
    assert "sample" not in out
    third = start(folder, "training.async_save=true")  # which is no other run
    wait_for_lines(folder, third, step + 40)
    third.kill()
    third.communicate()
    last = start(folder)
    out, err = last.communicate(timeout=100)
    assert last.returncode == 0, err
    (run,) = (folder / "runs").iterdir()
    assert f"run: runs/{run.name}, going on from step " in out

    assert reference.wait(100) == 0
    reference.communicate()
    (other,) = (whole / "runs").iterdir()
    assert lines(run / "metrics.jsonl") == lines(other / "metrics.jsonl")
    names = [run / "checkpoints/checkpoint-400/model.safetensors" for run in (run, other)]
    assert names[0].read_bytes() == names[1].read_bytes()
    assert not (run / ".owner.json").exists()


#: A job that ends 12 s after its imports, however long those take.
JOB = """\
import os, time
import tisslm.workflows.build.trainer
from tisslm.cli.main import main
os.environ["SLURM_JOB_END_TIME"] = str(int(time.time()) + 12)
main()
"""


def test_the_end_of_a_slurm_job_is_a_limit_and_is_announced(folder):
    begin = int(time.time())  # with ten seconds of safety, about two are left
    process = start(folder, "training.max_steps=1000000", program=("-c", JOB))
    out, err = process.communicate(timeout=60)
    now = time.time()
    assert process.returncode == 75, err
    limit = r"^time limit: the Slurm job ends at (.*); the run saves and leaves before$"
    (at,) = re.findall(limit, out, re.MULTILINE)
    assert err.startswith(f"the Slurm job ends at {at}: saving at step ")
    end = time.mktime(time.strptime(at, "%Y-%m-%d %H:%M:%S"))
    assert begin + 12 <= end
    assert now < end


def test_a_second_start_fails_at_once_and_names_the_first(folder):
    first = start(folder, "training.output_dir=run", "training.max_steps=1000000")
    try:
        end = time.monotonic() + 60
        while not (folder / "run/metrics.jsonl").exists() and time.monotonic() < end:
            time.sleep(0.01)
        second = start(folder, "training.output_dir=run")
        _, err = second.communicate(timeout=60)
        assert second.returncode == 3
        assert err.startswith(
            f"error: run: another trainer is at work in it: process {first.pid} on "
        )
    finally:
        first.send_signal(signal.SIGINT)
        _, err = first.communicate(timeout=60)
    assert first.returncode == 75, err


SLOW_DATA = """
import sys, time
from tisslm.workflows.build import trainer
from tisslm.cli.main import main
def read_run(*_):
    print("reading", flush=True)
    time.sleep(60)
trainer.read_run = read_run
sys.argv = ["tisslm", *sys.argv[1:]]
main()
"""


def test_a_signal_while_data_are_read_says_that_nothing_is_lost(folder):
    process = start(folder, program=("-c", SLOW_DATA))
    assert process.stdout is not None
    assert process.stdout.readline() == "reading\n"
    process.send_signal(signal.SIGUSR1)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (
        75,
        "SIGUSR1: stopped before the first step; the same command starts again\n",
    )
    assert not (folder / "runs").exists()

"""``tisslm launch`` of one rank, which needs no MPI, and what it refuses.

Several ranks are tested with the plugin that has a communicator for them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from interruptions import differences

if TYPE_CHECKING:
    from conftest import Cli, Files

RUN = """
[data]
path = "text.txt"
[model]
n_layer = 1
n_head = 2
n_embd = 16
seq_len = 16
dropout = 0.1
[training]
batch_size = 4
max_steps = 400
save_every = 20
validation_frequency = 0
output_dir = "{name}"
[log]
sinks = ["jsonl"]
"""


@pytest.fixture
def runs(folder: Path) -> Path:
    for name in ("whole", "launched"):
        (folder / f"{name}.toml").write_text(RUN.format(name=name))
    return folder


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tisslm", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def at_work(process: subprocess.Popen[str], run: Path) -> None:
    """Return when a checkpoint is there, or the process has ended."""
    while process.poll() is None and not list(run.glob("checkpoints/checkpoint-*")):
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ("-n", "0"),
            "launch: expected -n of 1 or more ranks, got 0; leave it out for one a NUMA node",
        ),
        (("-n", "9999"), "launch: expected -n of at most one rank for each of the "),
        (("-n", "1", "--max-restarts", "-1"), "launch: expected max-restarts of 0 or more, got -1"),
        (("missing.toml",), "missing.toml: there is no such configuration file; "),
        (("--set", "training.max_stepz=1"), "training.max_stepz: unknown key; "),
    ],
)
def test_a_refusal_is_one_sentence_and_leaves_nothing(
    cli: Cli, files: Files, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], error: str
) -> None:
    monkeypatch.delenv("TISSLM_OVERSUBSCRIBE", raising=False)
    before = files()
    result = cli("launch", *arguments)
    assert (result.code, result.out) == (3, "")
    assert result.err.startswith(f"error: {error}")
    assert result.err.count("\n") == 1
    assert files() == before


def test_without_the_plugin_it_is_said_once(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TISSLM_DISABLE_PLUGINS", "all")
    monkeypatch.setenv("TISSLM_OVERSUBSCRIBE", "1")
    result = cli("launch", "-n", "2")
    assert (result.code, result.out) == (3, "")
    assert result.err.startswith("error: unknown communicator 'mpi'. Known: local ")
    assert result.err.count("\n") == 1


def test_the_parent_has_neither_kernels_nor_mpi() -> None:
    program = (
        "import sys; from tisslm.cli import launch; "
        "print([n for n in sys.modules if n.startswith(('tisslm.ops', 'tisslm._kernels', 'mpi4py'))"
        "])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"[]\n"


def test_a_rank_that_is_killed_and_one_that_is_asked_to_leave_change_no_file(runs: Path) -> None:
    whole = start("train", "whole.toml")
    process = start("launch", "-n", "1", "launched.toml", "--max-restarts", "1")
    at_work(process, runs / "launched")
    psutil.Process(process.pid).children()[0].kill()
    err = ""
    while "goes on from" not in err:
        err = process.stderr.readline() if process.stderr else ""
        assert process.poll() is None, process.communicate()
    assert err.startswith("launch: a rank was ended by SIGKILL; restart 1 of at most 1, in 1 s, ")
    process.send_signal(signal.SIGTERM)  # in the pause
    _, err = process.communicate(timeout=90)
    assert process.returncode == 75
    assert "stopped before training began; the same command with --resume auto goes on" in err
    again = start("launch", "-n", "1", "launched.toml", "--resume", "auto")
    at_work(again, runs / "launched")
    _, err = again.communicate(timeout=90)
    assert again.returncode == 0, err
    whole.communicate(timeout=90)
    assert differences(runs / "whole", runs / "launched") == []


def test_codes_of_a_rank_are_those_of_the_command(runs: Path) -> None:
    process = start("launch", "-n", "1", "launched.toml", "--set", "optimizer.name=nothing")
    out, err = process.communicate(timeout=90)
    assert (process.returncode, out) == (3, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1

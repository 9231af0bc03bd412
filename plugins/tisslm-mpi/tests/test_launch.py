"""``tisslm launch``: ranks of a run on this machine, their signals, and starts after a fault.

All come to the bits of one process that nobody interrupts.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[3]

#: Seconds after which a job hangs: far more than any takes on a busy machine.
HANGS = 240

STEPS = 120

CONFIG = f"""
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
global_batch_size = 16
reduction_parts = 4
learning_rate = 1e-3
max_steps = {STEPS}
save_every = 10
validation_frequency = 50
stall_timeout = 60
[log]
sinks = ["jsonl"]
"""

TEXT = "".join(f"{i} green bottles hang on the wall, {i * i} of them fall.\n" for i in range(400))

#: Variables by which a user helps MPI; ``launch`` has to find out by itself.
HELP = ("MPI4PY_", "OMPI_", "OPAL_", "PRTE_", "PMIX_")


def start(folder, *arguments, library="", **environment):
    """Start a command of tisslm in a folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(HELP)}
    chosen = {"MPI4PY_LIBMPI": library} if library else {}
    paths = [str(ROOT), str(ROOT / "plugins/tisslm-mpi/src")]
    own = {
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "TISSLM_OVERSUBSCRIBE": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tisslm", *arguments],
        cwd=folder,
        env={**kept, **own, **chosen, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process, code=0):
    """Wait for a command that must end with a code; return what it has said."""
    try:
        output, errors = process.communicate(timeout=HANGS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail("hangs")
    assert process.returncode == code, f"exit code {process.returncode}\n{output}\n{errors}"
    return output, errors


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return a folder with a run of one process that nobody has interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "text.txt").write_text(TEXT)
    (folder / "run.toml").write_text(CONFIG)
    finish(start(folder, "train", "run.toml", "--set", "training.output_dir=run"))
    return folder


class Launched:
    """Launches the run in a folder of its own, beside the one that is whole."""

    def __init__(self, folder, library):
        self.folder, self.libmpi, self.started = folder, library, []

    def start(self, *more):
        arguments = ("launch", "-n", "2", "run.toml", "--set", "training.output_dir=run", *more)
        self.started.append(start(self.folder, *arguments, library=self.libmpi))
        return self.started[-1]

    def close(self):
        """End what a test that failed has left."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=HANGS)

    def at_work(self, process, beyond=-1):
        """Wait until a checkpoint beyond a step is there, and return its step."""
        end = time.monotonic() + HANGS
        while time.monotonic() < end and process.poll() is None:
            found = self.folder.glob("run/checkpoints/checkpoint-*/manifest.json")
            steps = [int(path.parent.name.rpartition("-")[2]) for path in found]
            if max(steps, default=-1) > beyond:
                return max(steps)
            time.sleep(0.01)
        raise AssertionError(f"no checkpoint beyond {beyond}: {finish(process)}")


@pytest.fixture
def launched(mpi, whole, tmp_path):
    for name in ("text.txt", "run.toml"):
        (tmp_path / name).write_text((whole / name).read_text())
    found = Launched(tmp_path, mpi.libmpi)
    yield found
    found.close()


def ranks_of(process):
    """Return the processes of the ranks."""
    with contextlib.suppress(psutil.NoSuchProcess):
        below = psutil.Process(process.pid).children(recursive=True)
        return [one for one in below if "train" in line_of(one) and "-n" not in line_of(one)]
    return []


def line_of(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def contents(run):
    """Return the SHA-256 of each file of a run; of those that have times in them, the name."""
    found = {}
    for path in sorted(run.rglob("*")):
        if path.is_file() and not path.is_symlink():
            has_times = path.suffix in (".json", ".jsonl", ".toml")
            digest = "" if has_times else hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(run))] = digest
    return found


def losses(run):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    kept = ("step", "train/loss", "eval/loss", "train/grad_norm")
    return [{name: line.get(name) for name in kept} for line in lines]


def check_same(run, whole):
    assert contents(run) == contents(whole)
    assert losses(run) == losses(whole)


def test_a_launched_run_has_files_bits_and_words_of_one_process(launched, whole):
    output, errors = finish(launched.start())
    check_same(launched.folder / "run", whole / "run")
    assert not errors
    assert output.count("run: run") == 2  # at the start and at the end, by one rank
    assert output.count("ranks 0 to 1, 1 thread each") == 1
    assert "\x1b" not in output  # what is no terminal here is none to the ranks


def test_signals_save_and_the_run_goes_on_to_the_same_bits(launched, whole):
    step = -1
    for number, name in ((signal.SIGTERM, "SIGTERM"), (signal.SIGUSR1, "SIGUSR1")):
        process = launched.start("--resume", "auto")
        step = launched.at_work(process, step)
        process.send_signal(number)
        _, errors = finish(process, 75)
        handed = "launch: SIGTERM: handed on to the ranks as SIGUSR1"
        assert (handed in errors) == (name == "SIGTERM")
        assert errors.count("saved at step ") == 1
        saved = errors.partition("saved at step ")[2].partition(";")[0]
        assert (launched.folder / f"run/checkpoints/checkpoint-{saved}").is_dir()
        step = int(saved)
    finish(launched.start("--resume", "auto"))
    assert losses(launched.folder / "run") == losses(whole / "run")
    last = f"checkpoints/checkpoint-{STEPS}"
    assert contents(launched.folder / "run" / last) == contents(whole / "run" / last)


def test_a_killed_rank_is_followed_by_a_restart_with_the_same_bits(launched, whole):
    process = launched.start("--max-restarts", "2")
    launched.at_work(process)
    victim = random.choice(ranks_of(process))
    victim.kill()
    _, errors = finish(process)
    if " was ended by SIGKILL; restart 1" in errors:  # another rank may have followed too soon
        named = (
            rf"launch: (rank [01] \(process {victim.pid}\)|a rank) was ended by SIGKILL; restart 1"
        )
        assert re.search(named, errors), errors
    # who is first: MPICH's launcher, which has seen the kill, or a rank that has lost the other
    assert "; restart 1 of at most 2, in 1 s, goes on from checkpoint-" in errors
    check_same(launched.folder / "run", whole / "run")


def test_a_second_signal_stops_at_once_though_a_rank_stands_still(launched):
    process = launched.start("--max-restarts", "5")
    launched.at_work(process)
    ranks = ranks_of(process)
    assert len(ranks) == 2
    ranks[1].suspend()
    process.send_signal(signal.SIGINT)
    time.sleep(0.8)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    finish(process, 130)
    assert time.monotonic() - begun < 40  # and not the 60 s after which a rank is missed
    _, alive = psutil.wait_procs(ranks, timeout=HANGS)  # Open MPI's launcher ends before them
    assert not alive


def test_ranks_whose_launcher_was_killed_save_and_leave(launched):
    process = launched.start()
    launched.at_work(process)
    ranks = ranks_of(process)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(ranks, timeout=HANGS)
    assert not alive
    assert not (launched.folder / "run/.owner.json").exists()  # they have left, and were not killed
    assert not (launched.folder / f"run/checkpoints/checkpoint-{STEPS}").exists()


def test_without_a_library_it_is_refused_once_before_anything_starts(mpi, whole):
    arguments = ("launch", "-n", "2", "run.toml", "--set", "training.output_dir=refused")
    output, errors = finish(start(whole, *arguments, library="/nowhere/libmpi.so"), 3)
    assert not output
    assert errors == (
        "error: launch: mpi4py finds no MPI library (cannot load MPI library); install one (pip "
        "install mpich, or the cluster's own), or name its file by "
        "MPI4PY_LIBMPI=/path/to/libmpi.so\n"
    )
    assert not (whole / "refused").exists()

"""One fault in a whole training: how soon all ends, by which code, and what the terminal says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
from interruptions import differences
from soak.faults.plugin import STRIKE
from soak.faults.starting import RANKS, Place, Way
from soak.kills import SMALL, TEXT

__all__ = ["CUT", "Ending", "judge", "prepare", "strike", "train_whole"]

CUT = "cut link"

#: Seconds of ``stall_timeout``, within which all has to be over, and after which it hangs.
STALL, SOON, HANGING = 5, 15.0, 90.0

#: The update after which the fault strikes; checkpoints come every tenth.
STEPS, STEP = 60, 35

CONFIG = f"""{SMALL}global_batch_size = 24
reduction_parts = {RANKS}
learning_rate = 1e-3
max_steps = {STEPS}
save_every = 10
validation_frequency = 25
stall_timeout = {STALL}
[scheduler]
name = "struck"
[log]
sinks = ["jsonl"]
"""

#: What names a culprit: our own words, and those of Open MPI's launcher.
BLAME = re.compile(
    r"rank (?P<a>\d+) on (?P<ah>\S+) of \d+ \(process \d+\): has vanished"
    r"|rank (?P<b>\d+) on (?P<bh>\S+) of \d+: has failed"
    r"|of \d+: rank (?P<c>\d+) on (?P<ch>\S+)[^\n]* (?:has not answered|ends, and this one waits)"
    r"|process rank (?P<d>\d+) with PID \d+ on node (?P<dh>\S+) exit(?:ed|ing)\b"
)


@dataclass
class Ending:
    """What became of a training in which a fault has struck.

    Attributes
    ----------
    way, fault : str
    rank : int
    seconds : float
        From the fault to the end of the launcher.
    all_seconds : float
        To that of the last process.
    code : int
        Of the launcher, as a shell has it.
    said : str
        The first line that blames a rank.
    wrong : list of str
        What is not as it should be.
    output : str
        All that the terminal has shown.
    """

    way: str
    fault: str
    rank: int
    seconds: float = float("inf")
    all_seconds: float = float("inf")
    code: int = 0
    said: str = ""
    wrong: list[str] = field(default_factory=list)
    output: str = ""

    def as_json(self) -> dict[str, object]:
        """Return it for a file."""
        return asdict(self)


def prepare(folder: Path) -> None:
    """Write text, configuration and the plugin's entry point."""
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    (folder / "run.toml").write_text(CONFIG, encoding="utf-8")
    info = folder / "site" / "tisslm_soak-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tisslm-soak\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[tisslm]\nsoak = soak.faults.plugin\n")


def train_whole(way: Way, place: Place) -> Path:
    """Train a run to its end in which nothing happens, and return it."""
    run = place.folder / "whole"
    with _started(way.line(run, place), way, place.folder, {}) as job:
        code = job.wait(HANGING)
    if code:
        raise RuntimeError(f"a run without a fault ended with {code}: {_said(place.folder)}")
    return run


def strike(way: Way, fault: str, rank: int, place: Place, whole: Path) -> Ending:
    """Train until a fault strikes a rank; go on then, and compare with a run that was left alone.

    ``tisslm launch`` is struck a second time, and goes on by itself.
    """
    folder, host = place.folder, place.hosts[rank]
    run, mark = folder / "struck", folder / "mark"
    shutil.rmtree(run, ignore_errors=True)
    mark.unlink(missing_ok=True)
    what = place.link(host, "down") if fault == CUT else fault
    told = {STRIKE: json.dumps({"rank": rank, "step": STEP, "mark": str(mark), "fault": what})}
    found = Ending(way.name, fault, rank)
    with _started(way.line(run, place), way, folder, told) as job:
        _wait(job, mark, found)
    found.output = _said(folder)
    judge(found)
    if fault == CUT:
        subprocess.run(place.link(host, "up"), check=True)
    if way.is_launch:
        mark.unlink(missing_ok=True)
    again = ["--resume", "auto", *(["--max-restarts", "2"] if way.is_launch else [])]
    with _started(way.line(run, place, *again), way, folder, told) as job:
        code = job.wait(HANGING)
    found.wrong += [f"going on ended with {code}: {_said(folder)}"] if code else []
    found.wrong += differences(whole, run)
    found.wrong += [] if mark.exists() else ["the fault has not struck"]
    return found


@contextmanager
def _started(
    line: Sequence[str], way: Way, folder: Path, more: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a job, and end with it whatever it has left; its words go to a file."""
    own = way.environment()
    paths = f"{folder / 'site'}{os.pathsep}{own['PYTHONPATH']}"
    with (folder / "said").open("wb") as said:
        job = subprocess.Popen(
            line,
            cwd=folder,
            env={**own, **more, "PYTHONPATH": paths, _MARKED: str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield job
    finally:
        for process in [*_left(folder)]:
            process.kill()
        job.wait()


#: The variable by which processes of a job are found, wherever they were started.
_MARKED = "TISSLM_SOAK_FOLDER"


def _left(folder: Path) -> list[psutil.Process]:
    """Return the processes of a job that have not ended."""
    found = []
    for process in psutil.process_iter():
        try:
            if (
                process.environ().get(_MARKED) == str(folder)
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found


def _wait(job: subprocess.Popen[bytes], mark: Path, found: Ending) -> None:
    """Wait for the end of a job and of all its processes, and note when and how it came."""
    end = time.time() + HANGING
    while job.poll() is None and time.time() < end:
        time.sleep(0.02)
    now = time.time()
    struck = float(mark.read_text()) if mark.exists() else float("nan")
    folder = mark.parent
    if job.returncode is None:
        found.wrong.append(f"hangs: {len(_left(folder))} processes")
        return
    found.code = job.returncode if job.returncode >= 0 else 128 - job.returncode
    found.seconds = now - struck
    while _left(folder) and time.time() < end:
        time.sleep(0.1)
    if left := _left(folder):
        found.wrong.append(f"left behind: {', '.join(' '.join(p.cmdline()) for p in left)}")
    else:
        found.all_seconds = time.time() - struck


def judge(found: Ending) -> None:
    """Add what is wrong with an end, and the first line that names a culprit."""
    if not found.code:
        found.wrong.append("code 0")
    if not max(found.seconds, found.all_seconds) <= SOON:
        found.wrong.append(f"not within {SOON:.0f} s")
    blamed = BLAME.search(found.output)
    if blamed is None:
        found.wrong.append("nobody is named")
        return
    line = found.output[found.output.rfind("\n", 0, blamed.start()) + 1 :]
    found.said = line.partition("\n")[0].strip()
    rank = int(next(blamed[name] for name in "abcd" if blamed[name] is not None))
    beside_launcher = found.fault == CUT and found.rank == 0  # which the others are cut off from
    if (rank == found.rank) == beside_launcher:
        found.wrong.append(f"rank {rank} is blamed")


def _said(folder: Path) -> str:
    return (folder / "said").read_text(encoding="utf-8", errors="replace")

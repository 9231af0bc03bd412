"""Whole processes as services, jobs and pipelines start them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: A command that says where its handles lead while it trains, and prints by itself.
PRINTING = """
import os, sys
from tisslm.cli.main import main
from tisslm.tracking.sinks.jsonl import JsonlSink
write = JsonlSink.write
def printing(sink, step, metrics):
    print("mine")
    print("mine", file=sys.stderr)
    with open("handles", "w") as file:
        file.write("\\n".join(os.readlink(f"/proc/self/fd/{n}") for n in range(3)))
    write(sink, step, metrics)
JsonlSink.write = printing
main()
"""


def shell(folder: Path, settings: list[str], redirection: str, program: str = PRINTING) -> int:
    """Train in a shell, with its streams as a redirection makes them."""
    command = [sys.executable, "-c", program, "train", *settings]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COMMAND": json.dumps(command)}
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f'"$@" {redirection}', "bash", *command],
        cwd=folder,
        env=environment,
        check=False,
        timeout=120,
    )
    return done.returncode


@pytest.fixture
def place(tmp_path: Path, folder: Path) -> Path:
    (tmp_path / "text.txt").write_bytes((folder / "text.txt").read_bytes())
    return tmp_path


def steps(run: Path) -> list[int]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["step"] for line in lines if "train/loss" in line]


@pytest.mark.parametrize(
    ("redirection", "kinds"),
    [
        ("<&- >&- 2>&-", ["/dev/null"] * 3),
        ("< /dev/null > /dev/full 2> /dev/full", ["/dev/null"] * 3),
        ("< /dev/null 2>&1 | head -1 > head", ["/dev/null"] * 3),
    ],
)
def test_a_run_needs_no_place_to_print(
    place: Path, settings: list[str], redirection: str, kinds: list[str]
) -> None:
    """Nor does a sink that prints: it stays, and no file of the run gets a number below three."""
    more = ["--set", "training.output_dir=run", "--set", "training.max_steps=40"]
    assert shell(place, settings + more, redirection) == 0
    assert steps(place / "run") == list(range(1, 41))
    assert json.loads((place / "run/summary.json").read_text())["status"] == "completed"
    assert (place / "run/checkpoints/checkpoint-40/manifest.json").exists()
    if "head" not in redirection:  # which may have read the first lines after the last step
        assert (place / "handles").read_text().splitlines() == kinds


def test_a_pipe_that_somebody_made_non_blocking_loses_nothing(
    folder: Path, settings: list[str]
) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    process = subprocess.Popen(
        [sys.executable, "-m", "tisslm", "generate", "run", "--max-new-tokens", "70000"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=writer,
    )
    os.close(writer)
    time.sleep(1.0)
    found = b""
    while block := os.read(reader, 2**16):
        found += block
        time.sleep(0.001)
    os.close(reader)
    assert process.wait(60) == 0
    assert len(found.decode()) > 70000


def test_a_stream_that_cannot_be_written_at_all_is_told(folder: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", '"$@" 1< text.txt', "bash", sys.executable, "-m", "tisslm", "verify", "run"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        1,
        "error: standard output could not be written (Bad file descriptor)\n",
    )


@pytest.mark.parametrize("before", ["exec", "nohup"])
def test_a_hangup_saves_unless_it_is_ignored(place: Path, settings: list[str], before: str) -> None:
    more = ["--set", "training.output_dir=run", "--set", "training.max_steps=1000000"]
    process = subprocess.Popen(
        ["bash", "-c", f'exec {before.replace("exec", "")} "$@"', "bash",
         sys.executable, "-m", "tisslm", "train", *settings, *more],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        end = time.monotonic() + 100
        while not (place / "run/metrics.jsonl").exists() and time.monotonic() < end:
            time.sleep(0.02)
        process.send_signal(signal.SIGHUP)
        if before == "nohup":
            seen = len(steps(place / "run"))
            while len(steps(place / "run")) < seen + 20 and time.monotonic() < end:
                time.sleep(0.02)
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=100)
    finally:
        process.kill()
    name = "SIGTERM" if before == "nohup" else "SIGHUP"
    assert process.returncode == 75, err
    assert f"{name}: saving at step " in err
    assert json.loads((place / "run/summary.json").read_text())["stopped_by"] == name
    assert list((place / "run/checkpoints").glob("checkpoint-*/manifest.json"))

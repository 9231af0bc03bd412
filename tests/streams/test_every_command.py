"""Every command, with standard streams that are closed, full, or read by nobody.

A command that shows something ends in one sentence where it cannot. One whose work is in files does
its work all the same, and so does every command whose caller has closed what it does not want.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tisslm.cli.main import COMMANDS, READER_LEFT, WRITERS

if TYPE_CHECKING:
    from conftest import Start

#: Arguments by command; OUT is a path that is not there yet. Each has the exit code 0.
SMALL_CHECK = ("--widths", "16,32", "--steps", "1", "--seeds", "1")

CALLS: dict[str, tuple[str, ...]] = {
    "train": ("train", "SETTINGS", "--set", "training.output_dir=OUT"),
    "train --dry-run": ("train", "SETTINGS", "--dry-run"),
    "launch": ("launch", "-n", "1", "SETTINGS", "--set", "training.output_dir=OUT"),
    "plan": ("plan", "SETTINGS", "--no-measure"),
    "project": ("project", "SETTINGS", "--nodes", "2"),
    "lr-find": ("lr-find", "SETTINGS", "--steps", "5"),
    "coord-check": ("coord-check", "SETTINGS", *SMALL_CHECK),
    "tokenizer": ("tokenizer", "train", "text.txt", "--vocab-size", "280", "--out", "OUT"),
    "tokenize": ("tokenize", "text.txt", "--out", "OUT"),
    "generate": ("generate", "run", "--prompt", "1", "--max-new-tokens", "5"),
    "chat": ("chat", "talks", "--max-new-tokens", "5"),
    "eval": ("eval", "run"),
    "embed": ("embed", "encoder", "--input", "turns.txt", "--output", "OUT.npy"),
    "export": ("export", "run", "--output", "OUT"),
    "report": ("report", "run", "--output", "OUT"),
    "replay": ("replay", "run", "--step", "5"),
    "top": ("top", "run"),
    "verify": ("verify", "run"),
    "gradcheck": ("gradcheck", "--component", "adamw"),
    "plugins": ("plugins",),
    "doctor": ("doctor",),
    "--help": ("--help",),
    "--version": ("--version",),
}

FULL = "standard output could not be written (No space left on device)"

#: What the handles of stdout and stderr are, where they are not ready.
STREAMS = [
    dict.fromkeys(handles, state)
    for state in ("closed", "full", "broken")
    for handles in (("1",), ("2",), ("1", "2"))
]

#: What a command that fails says, and its exit code.
FAILURES: dict[tuple[str, ...], tuple[int, str]] = {
    ("generate", "nowhere"): (1, "error: nowhere: no such checkpoint; "),
    ("train", "--set", "model.n_layer=none"): (3, "error: model.n_layer: "),
    ("nothing",): (2, "Usage: tisslm "),
    ("train", "--nothing"): (2, "Usage: tisslm train "),
}


def is_done(name: str, out: Path) -> bool:
    """Tell whether a command that writes has written all of it."""
    if name in ("train", "launch"):
        lines = (out / "metrics.jsonl").read_text().splitlines()
        steps = {line["step"] for line in map(json.loads, lines) if "train/loss" in line}
        summary = json.loads((out / "summary.json").read_text())
        saved = (out / "checkpoints/checkpoint-6/manifest.json").exists()
        return steps == set(range(1, 7)) and summary["status"] == "completed" and saved
    if name == "tokenize":
        return (out / "shards.json").exists()
    if name == "report":
        return out.read_text().rstrip().endswith("</html>")
    if name == "embed":
        return out.with_suffix(".npy").exists()
    return name == "train --dry-run" or out.exists()


def test_every_command_is_here() -> None:
    assert {arguments[0] for arguments in CALLS.values()} == {*COMMANDS, "--help", "--version"}


@pytest.mark.parametrize("name", CALLS)
def test_a_command_does_its_work_or_ends_in_one_sentence(
    start: Start, folder: Path, settings: list[str], tmp_path: Path, name: str
) -> None:
    calls = []
    for number, streams in enumerate(STREAMS):
        words = [w for word in CALLS[name] for w in (settings if word == "SETTINGS" else [word])]
        out = str(tmp_path / str(number))
        arguments = [w.replace("OUT", out) for w in words]
        calls.append({"streams": streams, "arguments": arguments, "input": "turns.txt"})
    writes = name.split(" ")[0] in WRITERS
    for number, done in enumerate(start(folder, *calls)):
        code, said = expected(STREAMS[number].get("1", "ready"), writes)
        shown = (STREAMS[number], done)
        assert done.code == code, shown
        assert done.err == ("" if "2" in STREAMS[number] else said), shown
        assert bool(done.out) == ("1" not in STREAMS[number]), shown
        assert not writes or is_done(name, tmp_path / str(number)), shown


def expected(stdout: str, writes: bool) -> tuple[int, str]:
    """Return the exit code and the words of a command that can do its work."""
    if stdout == "full":
        return (0, f"warning: {FULL}; the work went on\n") if writes else (1, f"error: {FULL}\n")
    return (READER_LEFT if stdout == "broken" and not writes else 0), ""


@pytest.mark.parametrize("arguments", FAILURES)
def test_an_error_keeps_its_exit_code(start: Start, folder: Path, arguments) -> None:
    code, words = FAILURES[arguments]
    calls = [{"arguments": arguments, "streams": streams} for streams in STREAMS]
    for streams, done in zip(STREAMS, start(folder, *calls), strict=True):
        assert (done.code, done.out) == (code, ""), (streams, done)
        assert done.err.startswith("" if "2" in streams else words), (streams, done)
        assert bool(done.err) == ("2" not in streams), (streams, done)
        assert "Traceback" not in done.err

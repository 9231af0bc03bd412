"""``tisslm report``: of a run that was trained, of several; what is refused."""

from __future__ import annotations

import builtins
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tisslm.system.quantities import size_text

if TYPE_CHECKING:
    from conftest import Cli, Files


def test_a_run_that_was_trained(cli: Cli, train: Cli, folder: Path) -> None:
    more = ("training.output_dir=run", "training.validation_frequency=2")
    result = train(*more, 'log.monitors=["gradient_norms"]', "training.monitor_steps=2")
    assert (result.code, result.err) == (0, "")
    result = cli("report", "run")
    size = (folder / "run/report.html").stat().st_size
    assert (result.code, result.err) == (0, "")
    assert result.out == f"report: run/report.html ({size_text(size)})\n"
    text = (folder / "run/report.html").read_text("utf-8")
    for part in ("figure-loss", "figure-grad-norms", "model.n_embd", "kernels.isa"):
        assert part in text
    machine = json.loads((folder / "run/environment.json").read_text())
    assert set(machine) == {"versions", "processor", "threads", "kernels", "variables"}
    assert cli("report", "run").code == 0  # a report may be replaced


def test_figures_as_files(cli: Cli, trained: Path, folder: Path) -> None:
    result = cli("report", "run", "--figures", "svg", "--figures", "png", "-o", "out/page.html")
    assert (result.code, result.err) == (0, "")
    names = {path.name for path in (folder / "out/plots").iterdir()}
    assert {"loss.svg", "loss.png", "grad-norm.svg", "memory.png"} <= names
    assert f"figures: {len(names)} files in out/plots\n" in result.out
    assert (folder / "out/plots/loss.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / "out/plots/loss.svg").read_text()
    assert not (trained / "report.html").exists()


def test_two_runs(cli: Cli, train: Cli, folder: Path) -> None:
    for name, rate in (("one", 0.1), ("two", 0.2)):
        train(f"training.output_dir={name}", f"training.learning_rate={rate}")
    result = cli("report", "one", "two")
    assert (result.code, result.err) == (0, "")
    text = (folder / "comparison.html").read_text("utf-8")
    assert "2 runs: one, two" in text
    assert '<th scope="row">training.learning_rate</th><td>0.1</td><td>0.2</td>' in text


def test_damaged_lines_are_named_and_the_report_is_written(cli: Cli, trained: Path) -> None:
    with (trained / "metrics.jsonl").open("a") as file:
        file.write("nothing\n")
    result = cli("report", "run")
    assert result.code == 0
    assert result.err == (
        "warning: run/metrics.jsonl, line 8: left out (expected JSON: Expecting value: line 1 "
        "column 1 (char 0)); the other lines are used\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("nowhere",), 1,
         "nowhere: expected the directory of a run, got nothing there; name one of runs/"),
        (("run", "run/"), 3,
         "report: expected different runs, got one twice; name each once"),
        (("run",) * 17, 3, "report: expected 1 to 16 runs, got 17; name fewer"),
        (("run", "--figures", "pdf"), 3, "--figures: expected svg or png, got 'pdf'"),
        (("run", "-o", "text.txt"), 3,
         "text.txt: this file is no report of TissLM and is left as it is; name another by "
         "--output, or move it away"),
        (("run", "-o", "run"), 3, "run: expected the name of a file to write, got a directory"),
        (("run", "-o", "text.txt/page.html"), 3,
         "text.txt/page.html: cannot be written (Not a directory); name another"),
    ],
)  # fmt: skip
def test_what_is_refused(
    cli: Cli, trained: Path, files: Files, arguments: tuple[str, ...], code: int, message: str
) -> None:
    before = files()
    result = cli("report", *arguments)
    assert (result.code, result.err) == (code, f"error: {message}\n")
    assert files() == before


def test_a_disk_that_is_full(cli: Cli, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = cli("report", "run")
    assert (result.code, result.err) == (
        1,
        "error: run/report.html: the report cannot be written (No space left on device); make "
        "room on that disk, or name another place by --output\n",
    )
    assert sorted(p.name for p in trained.iterdir() if "report" in p.name) == []


def test_without_matplotlib(cli: Cli, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return imported(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    result = cli("report", "run")
    assert (result.code, result.err) == (
        3,
        "error: report: drawing needs the package matplotlib (No module named "
        "'matplotlib.figure'); run 'pip install tisslm[report]'\n",
    )

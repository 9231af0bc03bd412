"""``tisslm``: its commands, how quickly it says so, and how warnings and Ctrl-C look."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tisslm.cli.main import COMMANDS
from tisslm.registry.discovery import tisslm_version
from tisslm.training.trainer import Trainer

if TYPE_CHECKING:
    from conftest import Cli

ROOT = Path(__file__).parents[2]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment(), timeout=120
    )


def environment() -> dict[str, str]:
    """Let a child find this package and use one thread."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "TISSLM_NUM_THREADS": "1"}


def test_the_help_names_every_command_with_its_line(cli: Cli) -> None:
    result = cli("--help")
    assert result.code == 0
    lines = [" ".join(line.split()) for line in result.out.splitlines()]
    for name, (_, line) in COMMANDS.items():
        assert f"{name} {line}" in lines


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_of_its_own(cli: Cli, name: str) -> None:
    result = cli(name, "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"Usage: tisslm {name} ")
    assert "--help" in result.out


def test_the_version_is_that_of_the_distribution(cli: Cli) -> None:
    result = cli("--version")
    assert (result.code, result.out) == (0, f"tisslm {tisslm_version()}\n")


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_load_nothing_heavy(flag: str) -> None:
    code = (
        "import sys\nfrom tisslm.cli.main import main\n"
        f"try:\n    main(['{flag}'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'scipy', 'pydantic', 'rich', 'tokenizers', 'psutil'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    result = python("-c", code)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_module_run_is_the_command() -> None:
    result = python("-m", "tisslm", "generate", "nowhere")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: nowhere: no such checkpoint; ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.filterwarnings("always::UserWarning")
def test_a_note_of_the_configuration_is_one_line(train: Cli) -> None:
    result = train("training.lr=1e-3")
    assert (result.code, result.err) == (
        0,
        "note: training.lr is read as training.learning_rate\n",
    )


@pytest.mark.filterwarnings("always::RuntimeWarning")
def test_another_warning_is_one_line(train: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(trainer: Trainer) -> None:
        warnings.warn("something is odd", RuntimeWarning, stacklevel=1)

    monkeypatch.setattr(Trainer, "train", warn)
    shown = warnings.showwarning
    assert train().err == "warning: something is odd\n"
    assert warnings.showwarning is shown


def test_an_interruption_before_the_run_is_one_line(
    train: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tisslm.workflows.build.settling.load_data", interrupt)
    result = train()
    assert (result.code, result.out, result.err) == (130, "", "interrupted\n")


def test_ctrl_c_saves_and_ends_a_run_with_code_75(folder: Path) -> None:
    flags = ["data.path=text.txt", "model.n_layer=1", "model.n_embd=16", "model.n_head=1"]
    flags += ["training.max_steps=1000000", "training.output_dir=run", "training.save_every=10"]
    command = [sys.executable, "-m", "tisslm", "train"]
    command += [x for flag in flags for x in ("--set", flag)]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stderr is not None
            seen = ""
            while not seen.startswith("step "):
                seen = child.stdout.readline()
                assert seen, child.stderr.read()
            while not list(folder.glob("run/checkpoints/checkpoint-*")):
                assert child.stdout.readline()
            child.send_signal(signal.SIGINT)
            _, err = child.communicate(timeout=120)
        finally:
            child.kill()
    assert child.returncode == 75
    first, second = err.splitlines()
    assert re.fullmatch(r"SIGINT: saving at step \d+; a second signal stops at once", first)
    assert re.fullmatch(r"saved at step \d+; the same command with --resume auto goes on", second)
    assert '"status": "stopped"' in (folder / "run" / "summary.json").read_text()


def test_a_reader_that_leaves_costs_no_traceback(trained: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-m", "tisslm", "generate", "run", "--max-new-tokens", "20000"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    assert writer.stderr is not None
    writer.stdout.read(1)
    writer.stdout.close()
    err = writer.stderr.read()
    writer.stderr.close()
    assert writer.wait(timeout=120) == 128 + signal.SIGPIPE
    assert err == ""

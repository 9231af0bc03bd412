"""What a sink's path may lead to: nothing hangs, nothing is renamed that is no file."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tisslm.contracts import RunInfo, Sink
from tisslm.errors import ConfigError, TissLMError
from tisslm.registry import load_registry

#: The file or folder of each sink that has one, below the run directory.
PLACES = {
    "csv": "metrics.csv",
    "jsonl": "metrics.jsonl",
    "mlflow": "mlflow.json",
    "prometheus": "prometheus.json",
    "tensorboard": "events",
    "wandb": "wandb-id.json",
}
#: Port 0 is any that is free: another test, or a user's own run, may have the one of the default.
OPTIONS = {"tensorboard": {"path": "events"}, "prometheus": {"port": 0}}


def fifo(path: Path) -> None:
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.mkdir()
    (path / "own").touch()


def device(path: Path) -> None:
    path.symlink_to("/dev/full")


def dangling(path: Path) -> None:
    path.symlink_to(path.parent / "missing" / "file")


def what(action: Callable[[], None]) -> str:
    """Return what an action says; it may not take longer than a wait that nobody ends."""
    said: list[str] = []

    def run() -> None:
        try:
            action()
        except TissLMError as error:
            said.append(str(error))
        else:
            said.append("")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert said, "it hangs"
    return said[0]


def made(name: str) -> Sink:
    return load_registry().build("sink", (name, OPTIONS.get(name, {})))


#: What each says of each; "" where the place is taken, or another file put there.
SAID = {
    ("csv", fifo): "expected a regular file, got a FIFO",
    ("csv", directory): "Is a directory",
    ("csv", device): "expected a regular file, got a device",
    ("csv", dangling): "No such file or directory",
    ("jsonl", fifo): "nobody reads it",
    ("jsonl", directory): "Is a directory",
    ("jsonl", device): "",
    ("jsonl", dangling): "No such file or directory",
    ("tensorboard", fifo): "File exists",
    ("tensorboard", directory): "",
    ("tensorboard", device): "File exists",
    ("tensorboard", dangling): "File exists",
    ("prometheus", fifo): "",
    ("prometheus", directory): "Is a directory",
    ("prometheus", device): "",
    ("prometheus", dangling): "",
}


@pytest.mark.parametrize(("name", "put"), SAID)
def test_a_new_run_takes_a_place_or_refuses_it(name, put, tmp_path: Path) -> None:
    path = tmp_path / PLACES[name]
    put(path)
    sink = made(name)
    said = what(lambda: sink.open(RunInfo(tmp_path, "x")))
    sink.close()
    expected = SAID[name, put]
    assert expected in said
    assert bool(said) == bool(expected)
    if said:
        assert said.startswith(f"sink {name}: {path} cannot be written (")
    if put is directory:
        assert (path / "own").exists(), "what is in the way stays where it is"
    assert Path("/dev/full").is_char_device()


@pytest.mark.parametrize("name", ["csv", "jsonl"])
def test_the_run_directory_is_no_file(name: str, tmp_path: Path) -> None:
    sink = load_registry().build("sink", (name, {"path": "."}))
    with pytest.raises(ConfigError, match="Is a directory"):
        sink.open(RunInfo(tmp_path, "x"))
    assert tmp_path.is_dir()


@pytest.mark.parametrize("put", [fifo, directory, device, dangling])
@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_what_a_run_remembers_is_read_from_a_file_alone(name, put, tmp_path: Path) -> None:
    path = tmp_path / PLACES[name]
    put(path)
    said = what(lambda: made(name).open(RunInfo(tmp_path, "x", resumed_step=1)))
    assert said.startswith(f"{path}: the sink {name} cannot go on with it (expected a regular file")
    assert said.endswith("delete it to begin a new run there")


@pytest.mark.parametrize("name", ["csv", "jsonl"])
def test_a_resumed_run_does_not_read_what_is_no_file(name: str, tmp_path: Path) -> None:
    fifo(tmp_path / PLACES[name])
    said = what(lambda: made(name).open(RunInfo(tmp_path, "x", resumed_step=1)))
    assert "cannot be written" in said


def test_a_table_that_was_replaced_meanwhile_is_not_waited_for(tmp_path: Path) -> None:
    sink = made("csv")
    sink.open(RunInfo(tmp_path, "x"))
    sink.write(1, {"a": 1.0})
    (tmp_path / "metrics.csv").unlink()
    fifo(tmp_path / "metrics.csv")
    said = what(lambda: sink.write(2, {"b": 1.0}))
    sink.close()
    assert said == (
        f"{tmp_path / 'metrics.csv'}: the sink csv cannot read its rows again (expected a regular "
        "file, got a FIFO); mend the file"
    )

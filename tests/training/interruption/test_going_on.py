"""``resume = "auto"``: the same command again, whatever became of the run before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from tisslm import ops
from tisslm.contracts import Sink
from tisslm.errors import CheckpointError, ConfigError, TissLMError


@pytest.fixture
def auto(make_trainer, tmp_path, monkeypatch):
    """Build a run whose directory is found by name and configuration."""
    monkeypatch.chdir(tmp_path)

    def make(**config: Any) -> Any:
        return make_trainer(output_dir="", name="mine", resume="auto", **config)

    return make


def die(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_run_without_a_checkpoint_is_begun_anew_where_it_was(auto, at_pass, lines, tmp_path):
    whole = auto(seed=7)
    whole.train()
    at_pass(9, die)
    cut = auto()
    with pytest.raises(KeyboardInterrupt):
        cut.train()
    assert len(lines(cut)) == 2
    again = auto()
    assert (again.current_step, again.run.path) == (0, cut.run.path)
    again.train()
    assert [line["step"] for line in lines(again)] == [line["step"] for line in lines(whole)]
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_a_run_with_a_checkpoint_goes_before_a_newer_one_without(auto, at_pass):
    with_one = auto(save_every=2, max_steps=2)
    with_one.train()
    assert auto(max_steps=2).run.path != with_one.run.path  # another configuration
    config = with_one.run.path / "config.resolved.toml"
    empty = with_one.run.path.with_name("mine-later")
    empty.mkdir()
    (empty / config.name).write_text(config.read_text())
    os.utime(config, (0, 0))
    assert auto(save_every=2, max_steps=2).run.path == with_one.run.path


def test_directories_that_are_no_runs_are_passed_over(auto, tmp_path):
    for number, text in enumerate([None, "", "[", "\0", 'a = "b"\n']):
        folder = tmp_path / "runs" / f"mine-{number}"
        folder.mkdir(parents=True)
        if text is not None:
            (folder / "config.resolved.toml").write_text(text)
    (tmp_path / "runs" / "mine-file").touch()
    trainer = auto(max_steps=1)
    assert (trainer.current_step, trainer.run.path.exists()) == (0, False)


def test_a_damaged_newest_checkpoint_is_passed_over_and_replaced(auto, same, lines, at_pass):
    whole = auto(seed=42, save_every=2, max_steps=6, keep_checkpoints=9)
    whole.train()
    expected = lines(whole)
    (whole.run.checkpoints / "checkpoint-6" / "model.safetensors").write_bytes(b"x" * 99)
    with pytest.warns(RuntimeWarning, match="-6 is damaged .*; taking checkpoint-4 instead"):
        again = auto(seed=42, save_every=2, max_steps=6, keep_checkpoints=9)
    assert (again.current_step, again.run.path) == (4, whole.run.path)
    again.train()
    assert same(whole, again)
    assert lines(again) == expected
    assert (again.run.checkpoints / "superseded-checkpoint-6").is_dir()


def test_only_damaged_checkpoints_are_an_error_and_nothing_starts_over(auto):
    trainer = auto(save_every=3, max_steps=6)
    trainer.train()
    for path in trainer.run.checkpoints.glob("*/model.safetensors"):
        path.write_bytes(b"x")
    with pytest.raises(CheckpointError, match="none of its 2 checkpoints can be used"):
        auto(save_every=3, max_steps=6)


def test_another_folder_of_checkpoints_starts_nothing_over(make_trainer):
    make_trainer(max_steps=1).train()
    with pytest.raises(ConfigError) as caught:
        make_trainer(checkpoint_dir="saved", resume="auto")
    run = make_trainer().run.path
    assert str(caught.value) == (
        f"training.checkpoint_dir: {run} has its checkpoints in 'checkpoints' and none in 'saved': "
        "nothing to go on from; keep 'checkpoints', or choose another training.output_dir to start "
        "anew"
    )
    assert make_trainer(checkpoint_dir="saved").current_step == 0  # which was asked for


def test_a_finished_run_adds_nothing_when_started_again(auto, lines):
    trainer = auto()
    trainer.train()
    before = lines(trainer)
    again = auto()
    again.train()
    assert lines(again) == before
    summary = json.loads((again.run.path / "summary.json").read_text())
    assert summary["eval_loss"] == before[-1]["eval/loss"]


def test_torn_lines_are_dropped_and_written_again(auto, lines, at_pass):
    whole = auto(save_every=2)
    whole.train()
    expected = lines(whole)
    newest = max(whole.run.checkpoints.iterdir(), key=lambda path: int(path.name[11:]))
    newest.rename(newest.with_name("elsewhere"))
    for name in ("metrics.jsonl", "metrics.csv"):
        path = whole.run.path / name
        path.write_bytes(path.read_bytes()[:-7])
    again = auto(save_every=2)
    assert again.current_step == 4
    again.train()
    assert lines(again) == expected


@pytest.mark.parametrize("name", ["metrics.jsonl", "metrics.csv"])
def test_lines_are_on_disk_before_their_checkpoint(make_trainer, monkeypatch, name):
    synced: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    make_trainer(save_every=3, max_steps=5).train()
    saves = [i for i, what in enumerate(synced) if what == "manifest.json"]
    assert len(saves) == 2
    lines_before = [i for i, what in enumerate(synced) if what == name]
    models = [i for i, what in enumerate(synced) if what == "model.safetensors"]
    assert len(lines_before) == 2
    assert all(line < model for line, model in zip(lines_before, models, strict=True))


@pytest.mark.filterwarnings("ignore:the run goes on under other conditions:RuntimeWarning")
def test_checkpoints_elsewhere_are_gone_on_from(make_trainer, tmp_path, lines):
    elsewhere = str(tmp_path / "elsewhere")
    trainer = make_trainer(checkpoint_dir=elsewhere, max_steps=4)
    trainer.run.make()
    probe = tmp_path / "elsewhere" / ".tmp-probe-99"
    probe.touch()
    trainer.train()
    assert not probe.exists()
    again = make_trainer(checkpoint_dir=elsewhere, resume="auto")
    assert again.current_step == 4
    again.train()
    assert len(lines(again)) == 6 + 3
    saved = str(tmp_path / "elsewhere" / "checkpoint-6")
    named = make_trainer(checkpoint_dir=elsewhere, output_dir="", resume=saved)
    assert (named.current_step, named.run.path.parent) == (6, Path("runs"))


# --------------------------------------------------------------------------- forked processes


class Forking(Sink):
    """Forks at a step, and lets the child go on as if it were the run."""

    def open(self, run: Any) -> None:
        self.child = 0
        self.parent = os.getpid()

    def write(self, step: int, metrics: Any) -> None:
        if step == 3 and os.getpid() == self.parent:
            self.child = os.fork()


def test_a_child_of_a_sink_ends_with_an_error_and_leaves_the_run_alone(make_trainer, capfd):
    sink = Forking()
    trainer = make_trainer(sinks=["jsonl", sink])
    try:
        trainer.train()
    except TissLMError as error:
        if os.getpid() == sink.parent:
            raise
        print(error, (trainer.run.path / ".owner.json").exists(), flush=True)
    finally:
        if os.getpid() != sink.parent:
            os._exit(0)
    end = time.monotonic() + 60
    while os.waitpid(sink.child, os.WNOHANG)[0] == 0:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert (
        "trainer.train: this process was forked from the one that trains" in capfd.readouterr().out
    )
    assert trainer.current_step == 6
    summary = json.loads((trainer.run.path / "summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("completed", 6)


@pytest.mark.skipif(ops.REFERENCE_ONLY, reason="the twins have no threads")
def test_a_forked_child_that_trains_gets_an_error_and_leaves_no_trace(tmp_path):
    """Also while another thread of the parent is inside a kernel and holds the engine's lock."""
    code = """
        import os, sys, threading
        import numpy as np
        from tisslm import TokenDataset, Trainer, TrainingConfig, Transformer, TransformerConfig
        from tisslm import ops

        shape = TransformerConfig(n_layer=1, n_head=1, n_embd=8, seq_len=8, vocab_size=5)
        data = TokenDataset(np.zeros(100, np.uint16), 8, vocab_size=5)

        def make(**config):
            config = TrainingConfig(output_dir="run", max_steps=1, batch_size=2, **config)
            return Trainer(Transformer(shape), dataset=data, config=config, sinks=())

        trainer = make()
        x, stop = np.ones(4_000_000, np.float32), threading.Event()

        def busy():
            while not stop.is_set():
                ops.scale(x, 1.0)

        thread = threading.Thread(target=busy)
        thread.start()
        for attempt in (trainer.train, lambda: make(threads=2), lambda: ops.set_threads(2)):
            child = os.fork()
            if child == 0:
                try:
                    attempt()
                    print("nothing", flush=True)
                except Exception as error:
                    print(type(error).__name__, str(error)[:60], flush=True)
                os._exit(0)
            os.waitpid(child, 0)
        stop.set()
        thread.join()
        print(os.path.exists("run"))
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == [
        "TissLMError trainer.train: this process was forked from one that loaded ",
        "TissLMError fill: this process was forked from one that loaded the kerne",
        "nothing",
        "False",
    ], done.stderr

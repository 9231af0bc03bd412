"""A run tried without leaving a trace."""

from __future__ import annotations

import math

import pytest

from tisslm import TokenDataset
from tisslm.contracts import Sink
from tisslm.errors import ConfigError
from tisslm.workflows import dry_run


class Unopened(Sink):
    """Must not be opened."""

    def open(self, run):
        raise AssertionError("a dry run has opened a sink")

    def write(self, step, metrics):
        raise AssertionError("a dry run has written metrics")


@pytest.fixture
def make(make_trainer, tokens):
    def build(valid=True, sinks=None, **config):
        parts = {"sinks": [Unopened()] if sinks is None else sinks}
        if valid:
            parts["val_dataset"] = TokenDataset(tokens[:120], 16, vocab_size=17)
        return make_trainer(parts=parts, **config)

    return build


def test_it_makes_the_first_steps_of_the_run_and_leaves_nothing(make, make_trainer, tmp_path):
    trainer = make(max_steps=50, validation_frequency=10, save_every=20)
    found = dry_run.dry_run(trainer)
    assert list(tmp_path.iterdir()) == []
    whole = make_trainer(max_steps=50)
    whole.train()
    assert found.losses == tuple(whole.loss_history[:2])
    assert (found.tokens, found.remaining, found.evaluations) == (48, 50, 5)
    assert math.isfinite(found.validation_loss)
    assert found.run_seconds == pytest.approx(
        50 * found.step_seconds + 5 * found.evaluation_seconds
    )
    written = sum(f.stat().st_size for f in (whole.run.checkpoints / "checkpoint-50").iterdir())
    assert written <= found.checkpoint_bytes < written + 2**17


@pytest.mark.parametrize(
    ("config", "kept", "evaluations"),
    [
        ({"save_every": 0}, 2, 5),
        ({"save_every": 7}, 4, 5),
        ({"save_every": 7, "keep_checkpoints": 0}, 8, 5),
        ({"save_every": 7, "keep_checkpoints": 1, "keep_best": 2}, 4, 12),
        ({"save_every": 5, "keep_checkpoints": 1, "keep_every": 10}, 8, 5),
        ({"save_every": 5, "validation_frequency": 0}, 4, 1),
        ({"save_every": 0, "restore_best": True}, 5, 5),
        ({"save_every": 0, "restore_best": True, "keep_checkpoints": 0}, 5, 5),
        (
            {
                "save_every": 0,
                "restore_best": True,
                "keep_checkpoints": 0,
                "best_metric": "train/loss",
            },
            5,
            5,
        ),
    ],
)
def test_how_many_checkpoints_and_evaluations_there_will_be(make, config, kept, evaluations):
    found = dry_run.dry_run(make(**{"max_steps": 50, "validation_frequency": 10, **config}))
    assert (found.kept, found.evaluations) == (kept, evaluations)


@pytest.mark.filterwarnings("ignore:the run goes on under other conditions:RuntimeWarning")
def test_a_run_that_goes_on_has_less_before_it(make):
    make(max_steps=4, sinks=()).train()
    trainer = make(max_steps=10, resume="auto", validation_frequency=3)
    found = dry_run.dry_run(trainer)
    assert (found.remaining, found.evaluations) == (6, 3)
    done = make(max_steps=4, resume="auto")
    assert dry_run.dry_run(done).remaining == 0


def test_the_lines_say_what_was_seen(make):
    found = dry_run.DryRun((4.25, 4.125), 0.5, 1000, 100, 4.0, 30.0, 2, 2**30, 2**31, 3)
    assert found.lines() == [
        "steps: loss 4.2500, 4.1250; 500 ms a step, 2,000 tokens/s",
        "evaluation: loss 4.0000 of the first windows; about 30s each, 2 times",
        "checkpoints: 1 GiB each, 3 at once; the disk has 2 GiB, which is too little",
        "the run: 100 steps, about 1m50s",
    ]
    alone = dry_run.dry_run(make(valid=False))
    assert (alone.validation_loss, alone.evaluations) == (None, 0)
    assert len(alone.lines()) == 3


def test_a_directory_that_cannot_be_made_is_refused(make, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as caught:
        dry_run.dry_run(make(folder="file/run"))
    assert str(caught.value) == (
        f"training.output_dir: '{tmp_path}/file/run' cannot be made, because '{tmp_path}/file' "
        "cannot be written; choose another directory or mend its permissions"
    )


def test_data_are_needed(make_trainer):
    with pytest.raises(ConfigError) as caught:
        dry_run.dry_run(make_trainer(parts={"dataset": None}))
    assert str(caught.value) == "dry run: no dataset was given; pass dataset= to the Trainer"


def test_evaluations_of_a_part_take_a_part_of_the_time(make, monkeypatch):
    monkeypatch.setattr(dry_run.time, "perf_counter", lambda: 0.0)
    monkeypatch.setattr(
        "tisslm.training.evaluation.tokens.time.perf_counter", iter(range(100)).__next__
    )
    whole, part = make(), make(folder="part", eval_batches=1)
    windows, rows = len(whole.val_dataset), whole.config.batch_size
    assert rows < windows
    seconds = [dry_run.dry_run(trainer).evaluation_seconds for trainer in (whole, part)]
    assert seconds == [windows / rows, 1.0]

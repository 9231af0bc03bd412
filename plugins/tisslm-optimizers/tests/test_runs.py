"""Whole runs: what is evaluated and saved, resumed to the bit, on one rank and on several."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from thread_ranks import run_ranks
from tisslm_optimizers.schedule_free import ScheduleFreeAdamW

from tisslm import TokenDataset, Trainer, TrainingConfig, Transformer, TransformerConfig, checkpoint
from tisslm.contracts import Communicator
from tisslm.training.evaluation import evaluate
from tisslm.training.ranks.communicators.local import LocalCommunicator
from tisslm.workflows.load_model import load_model

Array = NDArray[Any]
Make = Callable[..., Trainer]

NAMES = ["muon", "adafactor", "schedule_free_adamw", "lamb", "adam8bit"]
SHAPE = {"n_layer": 1, "n_head": 2, "n_embd": 32, "seq_len": 16, "vocab_size": 23}


def dataset(seed: int, count: int = 600) -> TokenDataset:
    tokens = np.random.default_rng(seed).integers(0, 23, count, dtype=np.uint16)
    return TokenDataset(tokens, 16, vocab_size=23)


@pytest.fixture
def make(tmp_path: Path, named: None) -> Make:
    """Return what builds a trainer."""

    def build(
        optimizer: Any, folder: str = "run", rank: Communicator | None = None, **given: Any
    ) -> Trainer:
        config: dict[str, Any] = {
            "max_steps": 6,
            "batch_size": 2,
            "global_batch_size": 8,
            "reduction_parts": 4,
            "learning_rate": 1e-2,
            "validation_frequency": 0,
            "save_every": 0,
            "keep_checkpoints": 0,
            "output_dir": str(tmp_path / folder),
            "threads": 1,
        }
        return Trainer(
            Transformer(TransformerConfig(**SHAPE), seed=5),
            optimizer,
            dataset=dataset(1),
            val_dataset=dataset(2, 100),
            sinks=(),
            communicator=rank or LocalCommunicator(),
            config=TrainingConfig(**{**config, **given}),
        )

    return build


def finish(trainer: Trainer) -> list[bytes]:
    """Train to the end, and return the bytes of all that has to be the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        trainer.train()
    state = trainer.optimizer.state()
    losses = np.array(trainer.loss_history)
    return [a.tobytes() for a in (trainer.model.parameters.data, losses, *state.values())]


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_was_left_goes_on_with_the_same_bits(make: Make, name: str) -> None:
    whole = finish(make(name))
    finish(make(name, "left", max_steps=6, save_every=2))
    resumed = make(name, "again")
    resumed.load_checkpoint(
        Path(resumed.config.output_dir).parent / "left" / "checkpoints" / "checkpoint-4"
    )
    assert finish(resumed) == whole


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_falls(make: Make, name: str) -> None:
    trainer = make(name, max_steps=30)
    finish(trainer)
    assert np.mean(trainer.loss_history[-3:]) < np.mean(trainer.loss_history[:3])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [2, 3])
def test_ranks_have_the_bits_of_one(make: Make, name: str, size: int) -> None:
    given = {"validation_frequency": 2, "save_every": 3, "max_grad_norm": 0.5}
    alone = make(name, "alone", **given)
    finish(alone)

    def one(rank: Communicator) -> Any:
        trainer = make(name, "shared", rank, **given)
        finish(trainer)
        return seen(trainer)

    assert run_ranks(size, one) == [seen(alone)] * size
    saved = [state_of(alone, folder) for folder in ("alone", "shared")]
    assert list(saved[0]) == list(saved[1])
    for key, array in saved[0].items():
        np.testing.assert_array_equal(array, saved[1][key], err_msg=key)

    def resumed(rank: Communicator) -> Any:
        trainer = make(name, "resumed", rank, **given)
        trainer.load_checkpoint(alone.session.run.checkpoints / "checkpoint-3")
        finish(trainer)
        return seen(trainer)

    assert run_ranks(size, resumed) == [seen(alone)] * size


def seen(trainer: Trainer) -> tuple[bytes, list[float], Any]:
    """Return what is the same for any number of ranks."""
    weights = trainer.model.parameters.data.tobytes()
    return weights, list(trainer.loss_history), trainer.state.evaluation


def state_of(trainer: Trainer, folder: str) -> dict[str, Array]:
    """Return the optimizer's state that a run of another folder has saved last."""
    path = Path(trainer.config.output_dir).parent / folder / "checkpoints" / "checkpoint-6"
    found = checkpoint.read(checkpoint.find(path), (checkpoint.OPTIMIZER,))
    return {name: np.array(array) for name, array in found[checkpoint.OPTIMIZER].items()}


# ------------------------------------------------------------------------ the average


def values(trainer: Trainer) -> dict[str, Array]:
    return {p.name: p.data.copy() for p in trainer.model.parameters}


def test_looking_at_the_average_changes_no_bit_of_a_run(make: Make) -> None:
    plain = finish(make("schedule_free_adamw"))
    looked = make("schedule_free_adamw", "looked", validation_frequency=1, save_every=1)
    assert finish(looked) == plain


def test_the_average_is_evaluated_saved_and_left_in_the_model(make: Make) -> None:
    trainer = make("schedule_free_adamw", validation_frequency=3, save_every=3)
    finish(trainer)
    optimizer = trainer.optimizer
    assert optimizer.shows_average
    average = {name: array.copy() for name, array in optimizer.state().items() if name[-2:] == "/x"}
    for name, array in values(trainer).items():
        np.testing.assert_array_equal(array, average[f"{name}/x"])
        assert not np.array_equal(array, optimizer.state()[f"{name}/z"])
    found = evaluate(trainer.model, trainer.val_dataset, trainer.validation_loss).loss  # type: ignore[arg-type]
    assert trainer.state.evaluation["eval/loss"] == pytest.approx(found, rel=1e-6)
    saved, _ = load_model(trainer.session.run.checkpoints / "checkpoint-6")
    assert saved.parameters.data.tobytes() == trainer.model.parameters.data.tobytes()


def test_passes_are_made_where_gradients_belong_and_not_at_the_average(make: Make) -> None:
    trainer = make("schedule_free_adamw")
    rows = next(iter(trainer.session.batches("test")))
    for _ in range(3):
        trainer.session.train_step(rows)
    optimizer = trainer.optimizer
    assert isinstance(optimizer, ScheduleFreeAdamW)
    trained = trainer.model.parameters.data.copy()
    assert not optimizer.shows_average
    x, z = (optimizer._slots.flat[name] for name in "xz")
    np.testing.assert_allclose(trained, 0.9 * x + 0.1 * z, rtol=0, atol=1e-6)
    trainer.validate(dataset(2, 100))
    assert optimizer.shows_average
    np.testing.assert_array_equal(trainer.model.parameters.data, x)
    trainer.zero_gradients()
    np.testing.assert_array_equal(trainer.model.parameters.data, trained)


def test_rates_whose_square_is_none_leave_the_average_where_it_was(make: Make) -> None:
    trainer = make("schedule_free_adamw")
    optimizer = trainer.optimizer
    before = trainer.model.parameters.data.copy()
    trainer.model.parameters.grad[...] = 1.0
    for rate in (0.0, 1e-200):
        optimizer.set_lr(rate)
        optimizer.step()
    optimizer.show_average(True)
    np.testing.assert_array_equal(trainer.model.parameters.data, before)

"""Gradients by pairs of answers: those of the loss, however an update is cut, and its reference."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from preference_runs import model_of, pairs_of, rows_of, trainer_of
from thread_ranks import run_ranks
from tolerances import largest_error

from tisslm import checkpoint
from tisslm.config.sections import AdapterConfig
from tisslm.contracts import Dataset, Model, PairBatch, Rows, ScoredPairs
from tisslm.errors import CheckpointError, ConfigError, DataError, NonFiniteError, ShapeError
from tisslm.models.tuning.tuning import Tuning
from tisslm.optim.losses import DPO, Contrastive, CrossEntropy
from tisslm.training.gradients.reference import score_answers

N = 12


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, threads: Any) -> None:
    threads(1)
    monkeypatch.setattr(os, "fsync", lambda _: None)


def gradients(
    folder: Path, size: int, loss: DPO | None = None, *, count: int = N, **shape: Any
) -> Any:
    """Return loss and gradient of some pairs in micro-batches of this size, off the reference."""
    dataset = pairs_of(count)
    rng = np.random.default_rng(1)
    dataset.reference = -20.0 + 3 * rng.standard_normal((count, 2))
    cut = {"batch_size": size, "gradient_accumulation_steps": count // size}
    trainer = trainer_of(folder, dataset=dataset, loss=loss, shape=shape, **cut)
    found = trainer.session.step.gradients(rows_of(dataset, 0, count)).loss
    return found, trainer.model.parameters.grad.copy(), trainer, dataset


@pytest.mark.parametrize("loss", [DPO(loss_type="ipo"), DPO(label_smoothing=0.2, beta=1.0)])
def test_they_are_the_gradients_of_the_mean_loss(tmp_path: Path, loss: DPO) -> None:
    """In float64, against differences of the loss of each answer read by itself."""
    count = 4
    value, found, trainer, dataset = gradients(tmp_path, 2, loss, count=count, dtype="float64")
    model = trainer.model
    assert isinstance(model, Model)

    def mean() -> float:
        policy, lengths = np.empty((2, count)), np.empty((2, count))
        for i in range(count):
            row = dataset.window(i)
            cuts = np.cumsum([0, *row.others["pair"]])
            for k in (0, 1):
                x, y = (a[cuts[k] : cuts[k + 1]] for a in (row.x, row.y))
                z = model.forward(x[None])[0][0]
                z = z - np.log(np.exp(z - z.max()).sum(axis=1, keepdims=True)) - z.max()
                real = y != -100
                policy[k, i], lengths[k, i] = z[real, y[real]].sum(), real.sum()
        reference_2P = np.asarray(dataset.reference).T
        return float(loss.value(ScoredPairs(policy, reference_2P, lengths)).losses_P.mean())

    assert value == pytest.approx(mean(), rel=1e-12)
    rng = np.random.default_rng(8)
    for parameter in model.parameters:
        direction, kept, step = rng.standard_normal(parameter.shape), parameter.data.copy(), 1e-5
        parameter.data[...] = kept + step * direction
        above = mean()
        parameter.data[...] = kept - step * direction
        slope = (above - mean()) / (2 * step)
        parameter.data[...] = kept
        grad = found[parameter.offset : parameter.offset + parameter.size]
        assert float(grad @ direction.ravel()) == pytest.approx(slope, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("shape", [{}, {"family": "llama"}], ids=str)
def test_micro_batches_of_any_size_leave_the_gradients_of_one(
    tmp_path: Path, shape: dict[str, Any]
) -> None:
    whole, expected, *_ = gradients(tmp_path, N, **shape)
    assert abs(expected).max() > 0
    for size in (1, 3, 4):
        value, found, *_ = gradients(tmp_path, size, **shape)
        assert value == pytest.approx(whole, rel=1e-6)  # float32, in products of other sizes
        assert largest_error(found, expected) < 1e-6


def test_the_body_is_run_once_for_each_micro_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, dataset, calls = trainer_of(tmp_path), pairs_of(), []
    dataset.reference = np.zeros((N, 2))
    body: Any = trainer.model
    forward = body.body.forward
    monkeypatch.setattr(body.body, "forward", lambda *a, **k: calls.append(1) or forward(*a, **k))
    trainer.session.step.gradients(rows_of(dataset, 0, 6))
    assert len(calls) == 3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_number_of_threads_changes_no_bit(tmp_path: Path, threads: Any, precision: str) -> None:
    found = set()
    for count in (1, 3):
        threads(count)
        trainer = trainer_of(tmp_path, precision=precision, shape={"dropout": 0.2})
        trainer.dataset.reference = np.zeros((N, 2))
        trainer.session.step.gradients(rows_of(trainer.dataset, 0, 6))
        found.add(trainer.model.parameters.grad.tobytes())
    assert len(found) == 1


# --------------------------------------------------------------------------- whole runs


def train(folder: Path, communicator: Any = "local", **changes: Any) -> Any:
    """Train to the end; return the bits of the parameters, the losses and the metrics."""
    cut = {"reduction_parts": 3, "shape": {"dropout": 0.2}, "val_dataset": pairs_of(5)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = trainer_of(folder, communicator=communicator, **{**cut, **changes})
        trainer.train()
    measured = {**trainer.loss_fn.metrics(), **trainer.state.evaluation}
    for name in ("eval/runtime", "eval/samples_per_second"):
        measured.pop(name, None)
    bits = trainer.model.parameters.data.tobytes()
    return bits, list(trainer.loss_history), measured, trainer


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_change_no_bit(tmp_path: Path, ranks: int) -> None:
    def work(communicator: Any) -> Any:
        settings = {"global_batch_size": 6, "gradient_accumulation_steps": 1}
        return train(tmp_path / "together", communicator, **settings)[:3]

    alone = train(tmp_path / "alone")[:3]
    assert run_ranks(ranks, work) == [alone] * ranks
    assert 0 < alone[2]["eval/rewards/accuracies"] <= 1


def test_the_margin_rises_and_is_measured(tmp_path: Path) -> None:
    _, losses, measured, _ = train(tmp_path, max_steps=10)
    assert losses[0] == pytest.approx(np.log(2), abs=0.05)  # off it by dropout alone
    assert losses[-1] < 0.5 * losses[0]
    assert measured["rewards/margins"] > 1
    assert measured["rewards/accuracies"] == 1
    chosen, rejected = measured["rewards/chosen"], measured["rewards/rejected"]
    assert measured["rewards/margins"] == pytest.approx(chosen - rejected)
    assert measured["eval/rewards/margins"] > 0.5


def test_a_resumed_run_has_the_bits_of_one_that_was_not_left(tmp_path: Path) -> None:
    """Its reference is that of the first step, and not what the trained weights would say."""
    whole = train(tmp_path / "whole", max_steps=6, save_every=2)
    first = whole[3].run.checkpoints / "checkpoint-2"
    saved = checkpoint.read(checkpoint.find(first), (checkpoint.REFERENCE,))
    assert sorted(a.shape for a in saved[checkpoint.REFERENCE].values()) == [(5, 2), (12, 2)]
    resumed = train(tmp_path / "resumed", max_steps=6, resume=str(first))
    assert resumed[:3] == whole[:3]
    np.testing.assert_array_equal(resumed[3].dataset.reference, whole[3].dataset.reference)


def test_other_pairs_cannot_be_gone_on_with(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", max_steps=2, save_every=1)[3]
    first = str(whole.run.checkpoints / "checkpoint-1")
    with pytest.raises(CheckpointError, match=r"got those of others or none; go on with the pairs"):
        train(tmp_path / "other", dataset=pairs_of(10), resume=first)


def test_the_reference_is_what_the_model_says_before_the_first_step(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, shape={"dropout": 0.3})
    before = score_answers(
        trainer.model, PairBatch.pack(rows_of(trainer.dataset), 24), CrossEntropy()
    )
    trainer.train()
    np.testing.assert_allclose(trainer.dataset.reference.T, before, rtol=1e-6)


def test_the_reference_beside_adapters_is_the_model_without_them(tmp_path: Path) -> None:
    tuning = Tuning(adapter=AdapterConfig(rank=2, targets=["q", "v", "up"]))
    trainer = trainer_of(tmp_path, model=model_of(tuning=tuning))
    next(iter(trainer.session.batches("test")))
    rows, base = rows_of(trainer.dataset, 0, 2), model_of()
    for parameter in base.parameters:
        parameter.data[...] = trainer.model.parameters[parameter.name].data
    expected = score_answers(base, PairBatch.pack(rows, 24), CrossEntropy())
    np.testing.assert_array_equal(trainer.dataset.reference[:2].T, expected)
    trainer.train()
    assert trainer.loss_history[-1] < trainer.loss_history[0]


def test_a_loss_without_a_reference_keeps_none(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, loss=DPO(reference_free=True), save_every=2)
    trainer.train()
    assert trainer.dataset.reference is None
    assert not list(trainer.run.checkpoints.rglob("reference.safetensors"))


def test_a_trial_of_a_step_computes_the_reference_of_its_pairs_alone(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, val_dataset=pairs_of(8))
    rows = next(iter(trainer.session.batches("trial", 1)))
    assert np.isfinite(rows.others["reference"]).all()
    assert np.isfinite(trainer.dataset.reference).all(axis=1).sum() == 6
    assert (
        np.isfinite(trainer.val_dataset.reference).all(axis=1).tolist() == [True] * 2 + [False] * 6
    )


def test_after_a_trial_the_run_computes_what_that_left_out(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, val_dataset=pairs_of(8))
    next(iter(trainer.session.batches("trial", 1)))
    next(iter(trainer.session.batches("run")))
    for dataset in (trainer.dataset, trainer.val_dataset):
        assert np.isfinite(dataset.reference).all()


def test_the_same_pairs_are_trained_on_and_evaluated(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, val_dataset=pairs_of(N), max_steps=2)
    trainer.train()
    np.testing.assert_array_equal(trainer.val_dataset.reference, trainer.dataset.reference)
    assert np.isfinite(trainer.state.evaluation["eval/loss"])


def test_a_run_of_a_few_of_the_pairs_is_gone_on_with(tmp_path: Path) -> None:
    """What of the others is not known is not asked for, until they are."""
    few: dict[str, Any] = {"overfit_batches": 1}
    whole = train(tmp_path / "whole", max_steps=4, save_every=2, **few)
    first = str(whole[3].run.checkpoints / "checkpoint-2")
    resumed = train(tmp_path / "resumed", max_steps=4, resume=first, **few)
    assert resumed[:3] == whole[:3]
    with pytest.raises(CheckpointError, match=r"log-probabilities of 12 pairs, got none of 6; go"):
        train(tmp_path / "all", max_steps=4, resume=first)


# --------------------------------------------------------------------------- refusals


class Windows(Dataset):
    """Windows of tokens, or of pairs without room for a reference."""

    vocab_size, seq_len = 256, 8

    def __init__(self, *, pairs: bool) -> None:
        self._others = {"pair": np.array([4, 4], np.int32)} if pairs else {}

    def __len__(self) -> int:
        return 6

    def window(self, i: int) -> Rows:
        return Rows(np.zeros(8, np.int32), np.ones(8, np.int32), None, self._others)

    def order(self, seed: int, epoch: int) -> Iterator[int]:
        return range(6)  # type: ignore[return-value]


def test_data_and_loss_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset: expected pairs of answers, since the loss is"):
        trainer_of(tmp_path, dataset=Windows(pairs=False))
    with pytest.raises(ConfigError, match=r"dataset: expected windows of tokens, since the loss"):
        trainer_of(tmp_path, loss=CrossEntropy())
    with pytest.raises(ConfigError, match=r"expected pairs with the log-probabilities of a refer"):
        trainer_of(tmp_path, dataset=Windows(pairs=True))
    with pytest.raises(ConfigError, match=r"loss Contrastive: expected a loss of logits"):
        trainer_of(tmp_path, loss=Contrastive())


def test_rows_that_are_no_pairs_are_refused_by_a_step(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)
    step, dataset = trainer.session.step, pairs_of()
    plain = Rows(*(np.zeros((6, 8), np.int32) for _ in "xy"))
    with pytest.raises(ShapeError, match=r"others\['pair'\] of shape \(B, 2\)"):
        step.gradients(plain)
    with pytest.raises(DataError, match=r"expected the log-probabilities of the reference beside"):
        step.gradients(rows_of(dataset, 0, 6))


def test_a_model_that_gives_no_finite_number_is_no_reference(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)
    trainer.model.parameters.data[...] = np.nan
    with pytest.raises(NonFiniteError, match=r"reference: expected a finite log-probability"):
        trainer.session.batches("test")


def test_a_step_that_is_not_finite_is_looked_into(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, on_nonfinite="stop")
    next(iter(trainer.session.batches("test")))
    trainer.model.parameters["blocks.1.mlp.down.weight"].data[3, 3] = np.nan
    with pytest.raises(NonFiniteError, match=r"blocks\.1\.mlp\.down\.weight"):
        trainer.session.train_step(rows_of(trainer.dataset, 0, 6))


def test_metrics_come_from_the_loss(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, best_metric="rewards/margins", early_stopping_patience=9)
    trainer.train()
    assert trainer.stopping.standing.metric == "rewards/margins"

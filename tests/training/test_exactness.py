"""The same bits for any number of threads, and the same mean for any cut into micro-batches."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm import ops
from tisslm.contracts import Batch, target_weights
from tisslm.ops.caches import resolve_caches
from tisslm.ops.runtime import compiled
from tisslm.optim.losses.cross_entropy import CrossEntropy

pytestmark = pytest.mark.skipif(ops.REFERENCE_ONLY, reason="the twins have no threads")

#: One accumulation in another order: a few float32 roundings of sums of a few hundred terms. In
#: mixed precision, too: each row's own arithmetic is the same, and so are the rounded terms.
REGROUPED = 1e-6

PRECISIONS = ["fp32", "bf16", "fp16"]

#: Threads, up to the most that there are, beside KiB of the two caches of a core.
MACHINES = [
    (1, 32, 512),
    (7, 16, 128),
    (16, 48, 1280),
    (17, 32, 256),
    (33, 17, 129),
    (64, 64, 3072),
]


@pytest.fixture
def caches():
    """Block products for caches of so many KiB; those of before come back."""
    isa = compiled("isa")
    yield lambda first, second: isa.block_for(first * 1024, second * 1024)
    before = resolve_caches()
    isa.block_for(before.level_1, before.level_2)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_twenty_steps_have_the_same_bits_for_any_number_of_threads_and_when_repeated(
    make_trainer, same_bits, threads, precision
):
    runs = []
    for i, count in enumerate((1, 2, 3, 5, 2)):
        threads(count)
        trainer = make_trainer(
            folder=f"run{i}", max_steps=20, gradient_accumulation_steps=2, precision=precision
        )
        trainer.train()
        runs.append(trainer)
    assert all(same_bits(runs[0], other) for other in runs[1:])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_steps_have_the_same_bits_on_machines_of_many_cores_and_of_other_caches(
    make_model, make_trainer, same_bits, threads, caches, precision
):
    """With so many channels that a sum goes through several blocks of a small cache."""
    runs = []
    for count, first, second in MACHINES:
        threads(count)
        caches(first, second)
        model = make_model(n_embd=200, n_head=4, n_kv_head=2, seq_len=16, dropout=0.1)
        trainer = make_trainer(
            folder=f"run{count}",
            parts={"model": model},
            max_steps=3,
            batch_size=9,
            precision=precision,
        )
        trainer.train()
        runs.append(trainer)
    for other, machine in zip(runs[1:], MACHINES[1:], strict=True):
        assert same_bits(runs[0], other), machine


def test_another_seed_of_dropout_gives_other_bits(make_trainer, make_model, same_bits):
    first, second = (
        make_trainer(folder=str(seed), parts={"model": make_model(seed=seed, dropout=0.1)})
        for seed in (1, 2)
    )
    for p, q in zip(first.model.parameters, second.model.parameters, strict=True):
        q.data[...] = p.data
    first.train()
    second.train()
    assert not same_bits(first, second)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_four_micro_batches_give_the_mean_of_one_batch(
    make_model, make_trainer, dropout, precision
):
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 17, (2, 12, 16))
    y[0, 3:] = y[4] = y[11, :9] = -100  # ragged: micro-batches of 39, 32, 48 and 39 targets
    model, scale = make_model(dropout=dropout), 65536.0 if precision == "fp16" else 1.0
    model.prepare(precision=precision)
    whole = Batch(x, y, target_weights(y, np.float64) * scale)
    loss = model.step_loss(whole, CrossEntropy()) / scale
    expected = {p.name: p.grad.copy() for p in model.parameters}

    trainer = make_trainer(
        parts={"model": make_model(dropout=dropout)},
        batch_size=3,
        gradient_accumulation_steps=4,
        max_grad_norm=0.0,
        precision=precision,
    )
    assert trainer.train_step(x, y) == pytest.approx(loss, rel=REGROUPED)
    assert trainer.loss_scale == scale
    for parameter in trainer.model.parameters:
        size = np.abs(expected[parameter.name]).max()
        assert np.abs(parameter.grad - expected[parameter.name]).max() <= REGROUPED * size, (
            parameter.name
        )


def test_the_mean_counts_targets_not_rows(make_trainer, make_model):
    rng = np.random.default_rng(4)
    x, y = rng.integers(0, 17, (2, 6, 16))
    y[:3, 1:] = -100
    trainer = make_trainer(dropout=0.0, batch_size=3, gradient_accumulation_steps=2)
    logits, _ = make_model().forward(x)
    assert trainer.train_step(x, y) == pytest.approx(CrossEntropy().forward(logits, y), rel=1e-6)

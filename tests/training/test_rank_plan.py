"""The plan of one of several ranks, beside what ranks take."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from thread_ranks import run_ranks

from tisslm import TokenDataset, Trainer, TrainingConfig, Transformer, TransformerConfig
from tisslm.errors import ConfigError
from tisslm.memory import arenas
from tisslm.registry import load_registry
from tisslm.training.memory_plan.items import FAMILIES, RANK_FAMILIES
from tisslm.training.memory_plan.planner import Planner

SHAPE = TransformerConfig(n_layer=2, n_head=2, n_embd=192, seq_len=16, vocab_size=53)

#: What a rank takes elsewhere than in arenas, or all ranks of a process together.
ELSEWHERE = ("data", "batches", "thread scratch", "checkpoint gathering")


def settings(**changed):
    return TrainingConfig(
        **{
            "batch_size": 2,
            "max_steps": 2,
            "global_batch_size": 48,
            "validation_frequency": 0,
            "threads": 1,
            **changed,
        }
    )


def dataset():
    tokens = np.random.default_rng(1).integers(0, 53, 100 * 16 + 1, dtype=np.uint16)
    return TokenDataset(tokens, 16, vocab_size=53)


def plan(ranks, optimizer="adamw", **changed):
    planner = Planner(
        Transformer.of_shapes(SHAPE),
        settings(**changed),
        optimizer,
        load_registry(),
        datasets=(dataset(),),
        ranks=ranks,
    )
    return planner.plan()


@pytest.fixture
def taken(monkeypatch):
    """Bytes of the arenas that were made since, by the name of the thread."""
    found, make = [], arenas.Arena.__init__

    def counted(self, nbytes, **options):
        make(self, nbytes, **options)
        found.append((threading.current_thread().name, self.nbytes))

    monkeypatch.setattr(arenas.Arena, "__init__", counted)
    return found


@pytest.mark.parametrize(
    ("size", "parts", "optimizer"),
    [(2, None, "adamw"), (3, None, "adamw"), (2, 8, "adamw"), (3, 8, "adamw"), (3, 3, "lion")],
)
def test_what_is_planned_is_what_ranks_take(size, parts, optimizer, taken, tmp_path):
    def train(communicator):
        trainer = Trainer(
            Transformer(SHAPE, seed=5),
            optimizer,
            dataset=dataset(),
            config=settings(reduction_parts=parts, output_dir=str(tmp_path / "run")),
            communicator=communicator,
            sinks=(),
        )
        trainer.train()
        return sum(array.nbytes for array in trainer.optimizer.state().values())

    states = run_ranks(size, train)
    families = plan(size, optimizer, reduction_parts=parts).by_family
    assert families["optimizer state"] == pytest.approx(max(states), rel=0.01)
    own = [sum(n for name, n in taken if name == f"rank {rank}") for rank in range(size)]
    sent = sum(n for name, n in taken if name == "tisslm-exchange") / size
    planned = sum(n for name, n in families.items() if name not in ELSEWHERE)
    assert planned == pytest.approx(max(own) + sent, rel=0.05)


def test_sums_wait_on_one_rank_whose_update_has_parts(taken):
    def train(**changed):
        del taken[:]
        model = Transformer(SHAPE, seed=5)
        config = settings(**changed)
        trainer = Trainer(model, config=config, sinks=())
        x_BT = np.random.default_rng(1).integers(0, 53, (48, 17))
        trainer.train_step(x_BT[:, :-1], x_BT[:, 1:])
        return sum(nbytes for _, nbytes in taken)

    whole, parts = plan(1), plan(1, reduction_parts=8)
    assert list(whole.by_family) == list(FAMILIES)
    assert parts.total - whole.total == train(reduction_parts=8) - train() > 0
    assert parts.by_family["waiting sums"] == parts.total - whole.total


def test_a_rank_keeps_a_part_of_the_state_and_of_the_rows():
    alone = {"global_batch_size": None, "gradient_accumulation_steps": 24}
    one, four = plan(1, **alone).by_family, plan(4).by_family
    assert set(four) == {*FAMILIES, *RANK_FAMILIES}
    assert four["optimizer state"] == pytest.approx(one["optimizer state"] / 4, rel=0.15)
    assert four["parameters"] == one["parameters"]
    assert four["activations"] == one["activations"]
    assert four["batches"] < one["batches"] / 2


def test_a_copy_for_checkpoints_is_whole():
    one, four = (plan(n, async_save=True).by_family["checkpoint copy"] for n in (1, 4))
    assert one == four > 0


def test_more_ranks_than_micro_batches_are_refused():
    with pytest.raises(ConfigError, match=r"for each of 25 ranks, got 48"):
        plan(25)


def test_a_trainer_of_several_ranks_plans_for_them():
    def make(communicator):
        return Trainer(
            Transformer(SHAPE, seed=5),
            dataset=dataset(),
            config=settings(memory_limit="1MiB"),
            communicator=communicator,
            sinks=(),
        )

    with pytest.raises(ConfigError, match=r"needs .*shard copies"):
        run_ranks(3, make)

"""Updated weights come back during the next forward pass, and nobody reads them too early."""

from __future__ import annotations

import threading
from collections import defaultdict

import numpy as np
import pytest
from thread_ranks import run_ranks

from tisslm import TokenDataset, Trainer, TrainingConfig, Transformer, TransformerConfig
from tisslm.contracts import PassObserver, Sink
from tisslm.memory.awaited import Awaited
from tisslm.training.ranks import layout
from tisslm.training.ranks.communicators.local import LocalCommunicator

SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 64, "seq_len": 16, "vocab_size": 23}
STEPS = 5


@pytest.fixture(autouse=True)
def _small_buckets(monkeypatch):
    """Cut the model into eight buckets, of which the pass needs the first at once."""
    monkeypatch.setattr(layout, "BUCKET_BYTES", 16384 * 4)


def make(communicator, folder, sinks=(), **settings):
    """Build the trainer of a rank."""
    rng = np.random.default_rng(1)
    tokens = rng.integers(0, SHAPE["vocab_size"], 36 * 16 + 1, dtype=np.uint16)
    config = {
        "max_steps": STEPS,
        "batch_size": 2,
        "global_batch_size": 12,
        "reduction_parts": 6,
        "learning_rate": 1e-2,
        "validation_frequency": 0,
        "save_every": 0,
        "output_dir": str(folder),
        "threads": 1,
    }
    return Trainer(
        Transformer(TransformerConfig(**SHAPE, dropout=0.1), seed=5),
        dataset=TokenDataset(tokens, 16, vocab_size=SHAPE["vocab_size"]),
        val_dataset=TokenDataset(tokens[:100], 16, vocab_size=SHAPE["vocab_size"]),
        sinks=sinks,
        monitors=settings.pop("monitors", ()),
        communicator=communicator,
        config=TrainingConfig(**{**config, **settings}),
    )


def train(communicator, folder, **settings):
    """Train; return the weights, without asking for them, and the losses."""
    trainer = make(communicator, folder, **settings)
    trainer.train()
    return trainer.model.parameters.data_arena.tobytes(), list(trainer.loss_history)


class Order(PassObserver):
    """Notes which places of forward passes begin and end, and which weights come, in their order.

    The last weights of an update are sent when the next pass is at its second place, and not
    before: a pass that waited for all of them would wait for ever.
    """

    def __init__(self, trainer):
        self.trainer, self.events = trainer, defaultdict(list)
        self._is_at_second = defaultdict(threading.Event)
        returning = trainer.session.parts.reduction._returning
        self.parcels, self._returning = returning._parcels, returning
        self._share, returning._channel.share = returning._channel.share, self.share

    def enter(self, place, direction):
        if direction == "forward":
            update = self.trainer.model.parameters.updates
            self.events[update].append(("begins", place))
            if place == "blocks.0.mlp":
                self._is_at_second[update].set()

    def leave(self, place, direction, arrays):
        if direction == "forward":
            self.events[self.trainer.model.parameters.updates].append(("ends", place))

    def share(self, own, received):
        update = self.trainer.model.parameters.updates
        number = self._returning._n_here
        if number == len(self.parcels) - 1 and update < STEPS:
            assert self._is_at_second[update].wait(60), "the pass waits for all weights"
        self._share(own, received)
        self.events[update].append(("weights", number))


@pytest.mark.usefixtures("late_weights")
@pytest.mark.parametrize("size", [2, 3])
def test_a_pass_goes_on_while_the_last_weights_are_still_on_their_way(tmp_path, size):
    seen = [None] * size

    def go(rank):
        trainer = make(rank, tmp_path / "run")
        seen[rank.rank] = order = Order(trainer)
        trainer.model.observers = (order,)
        trainer.train()
        return trainer.model.parameters.data_arena.tobytes(), list(trainer.loss_history)

    assert run_ranks(size, go) == [train(LocalCommunicator(), tmp_path / "alone")] * size
    for order in seen:
        parameters = order.trainer.model.parameters
        for update in range(1, STEPS):
            events = order.events[update]
            came = [events.index(("weights", n)) for n in range(len(order.parcels))]
            assert came == sorted(came)
            assert events.index(("begins", "blocks.0.mlp")) < came[-1]
            assert came[-1] < events.index(("ends", "blocks.1.mlp"))
            for place in ("embedding", "blocks.0.attention", "blocks.0.mlp", "blocks.1.attention"):
                own = [p for p in parameters if p.name.startswith(f"{place}.")]
                needed = [
                    n
                    for n, (bucket, *_) in enumerate(order.parcels)
                    if any(p.offset < bucket.stop and bucket.start < p.offset + p.size for p in own)
                ]
                assert came[max(needed)] < events.index(("ends", place)), place


@pytest.mark.usefixtures("late_weights")
@pytest.mark.parametrize(
    "settings",
    [
        {"validation_frequency": 1},
        {"rank_check_steps": 1},
        {"save_every": 1, "keep_checkpoints": 0},
        {"save_every": 1, "async_save": True},
        {"monitors": ["weight_distribution", "update_norms"], "monitor_steps": 1},
        {"validation_frequency": 1, "keep_best": 1, "restore_best": True, "save_every": 2},
    ],
    ids=lambda settings: next(iter(settings)) + str(len(settings)),
)
def test_whoever_reads_weights_after_each_step_has_all_of_them(tmp_path, settings):
    expected = train(LocalCommunicator(), tmp_path / "alone", **settings)
    assert run_ranks(2, lambda rank: train(rank, tmp_path / "run", **settings)) == [expected] * 2
    for path in (tmp_path / "alone").rglob("*.safetensors"):
        if not path.parent.is_symlink():
            again = tmp_path / "run" / path.relative_to(tmp_path / "alone")
            assert again.read_bytes() == path.read_bytes(), path


@pytest.mark.usefixtures("late_weights")
def test_a_run_that_a_signal_ends_is_saved_with_all_weights(tmp_path):
    expected = train(LocalCommunicator(), tmp_path / "whole")

    class Asks(PassObserver):
        def __init__(self, trainer):
            self.trainer = trainer

        def enter(self, place, direction):
            if self.trainer.current_step == 2:
                self.trainer.leaving._asked = "SIGTERM"

    def leave(rank):
        trainer = make(rank, tmp_path / "run")
        if rank.rank == 1:
            trainer.model.observers = (Asks(trainer),)
        trainer.train()
        return trainer.stopped, trainer.current_step

    assert run_ranks(2, leave) == [("SIGTERM", 3)] * 2
    assert run_ranks(2, lambda rank: train(rank, tmp_path / "run", resume="auto")) == [expected] * 2


@pytest.mark.usefixtures("late_weights")
def test_a_step_outside_a_run_leaves_all_weights_in_their_place(tmp_path):
    def step(rank):
        trainer = make(rank, tmp_path / "run")
        rows = trainer.session.parts.reduction.share.own_rows
        x_BT = np.random.default_rng(1).integers(0, 23, (12, 17))[rows.start : rows.stop]
        kept = trainer.model.parameters["blocks.1.mlp.up.weight"].data
        trainer.train_step(x_BT[:, :-1], x_BT[:, 1:])
        return trainer.model.parameters.data_arena.tobytes(), kept.tobytes()

    assert run_ranks(3, step) == [step(LocalCommunicator())] * 3


@pytest.mark.usefixtures("late_weights")
def test_a_model_that_may_keep_arrays_has_its_weights_before_the_step_is_over(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(Transformer, "asks_for_values", False)

    def go(rank):
        trainer, states = make(rank, tmp_path / "run"), []
        check = trainer.leaving.check_together

        def look(ahead):
            states.append(bool(np.isfinite(trainer.model.parameters.data_arena).all()))
            check(ahead)

        trainer.leaving.check_together = look
        trainer.train()
        return states

    assert run_ranks(2, go) == [[True] * STEPS] * 2


def test_what_keeps_weights_from_coming_is_told_to_whoever_asks(tmp_path):
    left = []

    def go(rank):
        trainer = make(rank, tmp_path / "run")
        returning = trainer.session.parts.reduction._returning
        share, parameters = returning._channel.share, trainer.model.parameters

        def fail(own, received):
            if rank.rank == 1 and parameters.updates == 3 and returning._n_here == 2:
                raise OSError("the cable was cut")
            share(own, received)

        returning._channel.share = fail
        try:
            trainer.train()
        finally:
            if rank.rank == 1:
                left.append(trainer)

    with pytest.raises(OSError, match="the cable was cut"):
        run_ranks(2, go)
    (trainer,) = left
    parameters = trainer.model.parameters
    assert trainer.current_step == 3
    assert np.isfinite(parameters["embedding.token.weight"].data).all()  # it had come
    for ask in (
        lambda: parameters.data,
        lambda: parameters["blocks.1.mlp.up.weight"].data,
        trainer.session.save_now,
        trainer.train,
    ):
        with pytest.raises(OSError, match="the cable was cut"):
            ask()


class FullDisk(Sink):
    """A sink that fails at step 3."""

    def open(self, run):
        pass

    def write(self, step, metrics):
        if step == 3:
            raise ValueError("no more")


def test_an_error_of_the_run_is_not_held_up_by_weights_that_never_come(tmp_path):
    """Rank 1 stands still; rank 0 fails meanwhile, and is told of its own error."""
    released = threading.Event()

    def go(rank):
        sinks = [FullDisk()] if rank.rank == 0 else ()
        trainer = make(rank, tmp_path / "run", sinks, on_sink_error="fail")
        returning = trainer.session.parts.reduction._returning
        share = returning._channel.share

        def wait(own, received):
            if rank.rank == 1 and trainer.model.parameters.updates == 3:
                released.wait(60)
            share(own, received)

        returning._channel.share = wait
        try:
            trainer.train()
        finally:
            if rank.rank == 0:
                assert not released.is_set()
                released.set()

    with pytest.raises(Exception, match="no more"):
        run_ranks(2, go)


def test_one_rank_alone_waits_for_nothing(tmp_path, monkeypatch):
    monkeypatch.delattr(Awaited, "ask")
    train(LocalCommunicator(), tmp_path / "run", validation_frequency=2, save_every=2)

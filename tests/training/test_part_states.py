"""Parts that remember something go on with it; one that cannot is named."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tisslm import TokenDataset
from tisslm.contracts import Monitor, Sink
from tisslm.errors import CheckpointError, PluginError
from tisslm.optim.losses.cross_entropy import CrossEntropy
from tisslm.tracking.sinks.memory import MemorySink


class Counter:
    """Counts calls, and keeps the count."""

    count = 0

    def state(self):
        return {"count": self.count}

    def load_state(self, state):
        self.count = int(state["count"])


class Growing(Counter, CrossEntropy):
    """A loss that grows by a hundredth with every call."""

    def tile(self, logits_NV, targets_N, weights_N, *, gradient=True):
        if gradient:
            self.count += 1
        weights_N = weights_N * np.float32(1.0 + self.count / 100)
        return super().tile(logits_NV, targets_N, weights_N, gradient=gradient)


class Counting(Counter, Monitor):
    """A monitor that counts."""

    wants = frozenset({"weights"})

    def observe(self, site, array):
        self.count += 1

    def metrics(self):
        return {"count": self.count}


class Numbered(Counter, Sink):
    """A sink that numbers its lines."""

    def open(self, run):
        pass

    def write(self, step, metrics):
        self.count += 1


class Own(Counter, TokenDataset):
    """A dataset with a state."""


def test_every_part_goes_on_with_its_state(make_trainer, tokens, same_bits):
    def make(**config):
        dataset = Own(tokens, 16, vocab_size=17)
        dataset.count = 0 if config.get("resume") else 5
        sinks, monitors = [Numbered(), Numbered()], [Counting()]
        parts = {"loss_fn": Growing(), "dataset": dataset, "sinks": sinks, "monitors": monitors}
        return make_trainer(parts=parts, monitor_steps=1, **config)

    whole = make(folder="whole", save_every=4)
    whole.train()
    path = whole.run.checkpoints / "checkpoint-4"
    kept = json.loads((path / "trainer_state.json").read_text())["parts"]
    assert kept == {
        "loss Growing": {"count": 4},
        "dataset Own": {"count": 5},
        "monitor Counting": {"count": 4 * len(whole.model.parameters)},
        "sink Numbered": {"count": 4},
        "sink Numbered 2": {"count": 4},
    }
    again = make(folder="again", resume=str(path))
    assert again.dataset.count == 5
    again.train()
    assert same_bits(whole, again)
    assert again.monitors[0].count == whole.monitors[0].count
    assert [sink.count for sink in again.sinks] == [sink.count for sink in whole.sinks] == [6, 6]


def test_a_state_that_no_part_takes_is_named(make_trainer):
    first = make_trainer(parts={"monitors": [Counting()]})
    first.train()
    with pytest.warns(RuntimeWarning, match=r"has states of parts that .* without: monitor C"):
        make_trainer(folder="again", resume=str(first.run.path))


def test_a_checkpoint_of_another_optimizer_changes_no_part(make_trainer):
    first, loss = make_trainer(parts={"loss_fn": Growing()}), Growing()
    first.train()
    other = make_trainer(folder="other", parts={"loss_fn": loss, "optimizer": "sgd"})
    with pytest.raises(CheckpointError, match="optimizer"):
        other.load_checkpoint(first.run.path)
    assert loss.count == 0


class Odd:
    """Has a state that no JSON can hold, and takes none."""

    def state(self):
        return {"odd": {1, 2}}

    def load_state(self, state):
        raise ValueError("not mine")


class OddSink(Odd, Numbered):
    """A sink of that kind."""


class OddLoss(Odd, CrossEntropy):
    """A loss of that kind."""


def test_an_observer_whose_state_cannot_be_kept_is_left_out_with_a_warning(make_trainer):
    trainer = make_trainer(parts={"sinks": [OddSink()]})
    with pytest.warns(
        RuntimeWarning,
        match=r"^sink OddSink: its state\(\) is not plain JSON values \(TypeError: ",
    ):
        trainer.train()
    path = trainer.run.checkpoints / "checkpoint-6" / "trainer_state.json"
    state = json.loads(path.read_text())
    assert state["parts"] == {}


def test_a_loss_whose_state_cannot_be_kept_stops_the_save(make_trainer):
    trainer = make_trainer(parts={"loss_fn": OddLoss()})
    with pytest.raises(PluginError, match=r"^loss OddLoss: .* cannot be saved without it$"):
        trainer.save_checkpoint(0, 1)


def test_a_state_that_is_not_taken(make_trainer, monkeypatch):
    monkeypatch.setattr(Odd, "state", lambda _: {"plain": 1})
    sink, loss = {"sinks": [OddSink()]}, {"loss_fn": OddLoss()}
    first, second = make_trainer(parts=sink), make_trainer(folder="loss", parts=loss)
    first.train()
    second.train()
    with pytest.warns(RuntimeWarning, match=r"sink OddSink does not take .* and begins without it"):
        make_trainer(folder="again", parts=sink, resume=str(first.run.path))
    other = make_trainer(folder="again", parts=loss)
    before = other.model.parameters.data.copy()
    with pytest.raises(CheckpointError, match=r"loss OddLoss does not take .*ValueError: not mine"):
        other.load_checkpoint(second.run.path)
    assert np.array_equal(before, other.model.parameters.data)


def test_other_data_are_a_warning(make_trainer, tokens):
    trainer = make_trainer()
    trainer.train()
    changed = tokens.copy()
    changed[3] = (changed[3] + 1) % 17
    parts = {"dataset": TokenDataset(changed, 16, vocab_size=17)}
    with pytest.warns(RuntimeWarning, match="conditions .data: [0-9a-f]{16} then, [0-9a-f]{16} n"):
        make_trainer(folder="other", parts=parts, resume=str(trainer.run.path))


def test_a_fingerprint_is_of_what_the_windows_hold(tokens):
    def of(array, seq_len=16, **options):
        return TokenDataset(array, seq_len, **{"vocab_size": 17, **options}).fingerprint()

    first = of(tokens)
    assert of(tokens.astype(np.int64)) == first
    assert of(tokens, 15) != first
    assert of(tokens, vocab_size=18) != first
    assert of(tokens[:-17]) != first
    for place in (0, 300, 687):
        changed = tokens.copy()
        changed[place] = (changed[place] + 1) % 17
        assert of(changed) != first
    large = np.tile(tokens, 100)
    assert of(large) != of(large[16:])
    assert len(of(tokens[:17])) == 16


def test_states_that_nobody_takes_are_called_by_the_names_of_their_parts(make_trainer, monkeypatch):
    monkeypatch.setattr(MemorySink, "state", lambda _: {"plain": 1})
    first = make_trainer(parts={"sinks": ["memory", "memory"]})
    first.train()
    message = r"has states of parts that this run is without: sink memory, sink memory 2$"
    with pytest.warns(RuntimeWarning, match=message):
        make_trainer(folder="again", parts={"sinks": []}, resume=str(first.run.path))


def test_a_name_and_an_object_of_its_class_have_their_state_in_common(make_trainer, monkeypatch):
    taken = []
    monkeypatch.setattr(MemorySink, "state", lambda _: {"plain": 1})
    monkeypatch.setattr(MemorySink, "load_state", lambda _, state: taken.append(state))
    first = make_trainer(parts={"sinks": ["memory"]})
    first.train()
    make_trainer(folder="again", parts={"sinks": [MemorySink()]}, resume=str(first.run.path))
    assert taken == [{"plain": 1}]

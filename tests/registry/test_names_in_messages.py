"""Messages call a part as the user does: by its name, or by the class of an object of their own."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tisslm.contracts import RunInfo, Text
from tisslm.contracts.part_names import give_name, name_of
from tisslm.errors import CheckpointError, ConfigError, SinkError
from tisslm.memory import Parameters, ParameterSpec
from tisslm.optim.losses import CrossEntropy
from tisslm.optim.optimizers import AdamW
from tisslm.registry import Part, load_registry
from tisslm.registry.hookspecs import Entry
from tisslm.tracking.monitoring import check_monitors
from tisslm.tracking.sink_group import SinkGroup
from tisslm.tracking.sinks.memory import MemorySink
from tisslm.training.nonfinite.watched_losses import WatchedLoss

PACKAGE = Path(__file__).parents[2] / "tisslm"


@pytest.fixture
def build():
    return load_registry().build


def parameters() -> Parameters:
    return Parameters([ParameterSpec("w", (3, 4))])


def test_a_part_that_was_asked_for_by_name_has_it(build):
    optimizer = build("optimizer", "adamw", parameters(), 1e-3)
    assert name_of(optimizer) == "adamw"
    assert name_of(build("scheduler", ("cosine", {"max_steps": 3}), optimizer)) == "cosine"
    for kind, name in (
        ("loss", "cross_entropy"),
        ("sink", "jsonl"),
        ("monitor", "gradient_norms"),
        ("tokenizer", "byte"),
        ("communicator", "local"),
        ("sink", "tensorboard"),  # of a plugin
    ):
        assert name_of(build(kind, name)) == name
    assert name_of(build("tokenizer", "char", "abc", via="from_text")) == "char"


def test_an_object_is_called_by_its_class(build):
    given = MemorySink()
    assert name_of(build("sink", given)) == "MemorySink"


def test_a_sink_is_switched_off_by_its_name(build, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(MemorySink, "write", fail)
    info = RunInfo(directory=Path(), name="run")
    group = SinkGroup([build("sink", "memory")])
    group.open(info)
    with pytest.warns(RuntimeWarning, match=r"^sink memory is switched off: OSError: the disk is"):
        group.write(1, {"a": 1.0})
    strict = SinkGroup([build("sink", "memory")], on_error="fail")
    strict.open(info)
    with pytest.raises(SinkError, match=r"^sink memory: OSError: "):
        strict.write(1, {"a": 1.0, "t": Text("b")})


def test_a_monitor_that_wants_what_is_not_shown_is_called_by_its_name(build, monkeypatch):
    monitor = build("monitor", "gradient_norms")
    monkeypatch.setattr(type(monitor), "wants", frozenset({"dreams"}))
    with pytest.raises(ConfigError, match=r"^monitor gradient_norms wants dreams, "):
        check_monitors([monitor])


def test_an_optimizer_whose_state_does_not_fit_is_called_by_its_name(build):
    with pytest.raises(CheckpointError, match=r"^optimizer adamw: the saved state does not fit"):
        build("optimizer", "adamw", parameters(), 1e-3).load_state({})
    with pytest.raises(CheckpointError, match=r"^optimizer AdamW: the saved state does not fit"):
        AdamW(parameters(), 1e-3).load_state({})


def test_a_loss_over_hidden_states_is_called_by_its_name(build):
    class Hidden(CrossEntropy):  # type: ignore[misc]
        needs = "hidden"

    loss = give_name(Hidden(), "my_hidden")
    with pytest.raises(ConfigError, match=r"^loss my_hidden works on hidden states"):
        loss.forward(np.zeros((2, 3), np.float32), np.zeros(2, np.int32))


def test_a_loss_that_is_watched_keeps_its_name(build):
    assert name_of(WatchedLoss(build("loss", "focal"), None)) == "focal"  # type: ignore[arg-type]


def test_a_class_is_known_by_name_without_being_imported():
    parts = load_registry().entries("sink")
    assert {part.entry.name: part.class_name for part in parts}["jsonl"] == "JsonlSink"
    one = parts[0]
    assert Part(one.kind, Entry("mine", MemorySink, "For tests."), one.provider).class_name == (
        "MemorySink"
    )


#: Classes in messages that have no name, and types of values.
PERMITTED = {
    "layer.py": 2,  # methods that a subclass forgot
    "model.py": 1,  # objects of the user's own
    "network.py": 3,
    "optimization.py": 2,
    "samples.py": 1,  # a model
    "monitoring.py": 1,  # a model
    "adapter.py": 1,  # a model, and so are the next three
    "decoding.py": 1,
    "folder.py": 1,
    "writing.py": 1,
    "matching.py": 1,  # a model
    "components.py": 1,  # the key of a state, which no message shows
    "checks.py": 1,  # what keeps no contract
    "part_names.py": 1,
}


def test_no_other_message_says_the_class_of_a_part():
    part = re.compile(r"type\((self|part|\w*\.?(?:sink|monitor|loss|optimizer|scheduler|tokenizer|"
                      r"dataset|communicator|model|_model))\)\.__name__")  # fmt: skip
    found = {
        path.name: len(part.findall(path.read_text()))
        for path in PACKAGE.rglob("*.py")
        if path.parent.name != "testing" and part.search(path.read_text())
    }
    assert found == PERMITTED

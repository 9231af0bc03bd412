"""An owner of states that checkpoints did not have before: one class; nothing else knows it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import flip, reseal
from safetensors.numpy import save_file

from tisslm import checkpoint
from tisslm.checkpoint import ArraysFile, Checkpoint, File
from tisslm.checkpoint.files import FILES
from tisslm.checkpoint.saver import CheckpointCopy
from tisslm.errors import CheckpointError, NonFiniteError
from tisslm.memory import Parameters
from tisslm.memory.copies import copy_bytes
from tisslm.registry import load_registry
from tisslm.training.memory_plan.planner import Planner
from tisslm.training.snapshot import owners
from tisslm.training.state import TrainerState
from tisslm.training.step import StepResult
from tisslm.workflows.dry_run import dry_run
from tisslm.workflows.load_model import load_model
from tisslm.workflows.lr_range import Rates, range_test

NAME = "averages.safetensors"


class Averages(owners.StateOwner):
    """Arrays like the parameters, which the test changes by hand."""

    files = (ArraysFile(NAME, required=False, called="average"),)

    def __init__(self, run: owners.Owned) -> None:
        super().__init__(run)
        parameters = run.parts.model.parameters.state()
        self.arrays = {name: array.copy() for name, array in parameters.items()}
        run.parts.model.averages = self.arrays

    @classmethod
    def planned(cls, parameters: Parameters, slots: Sequence[int]) -> Iterable[int]:
        return (p.data.nbytes for p in parameters)

    def take(self, state: TrainerState) -> Mapping[File[Any], Any]:
        return {self.files[0]: self.arrays}

    def check(self, found: Checkpoint, where: Path) -> None:
        checkpoint.check_parameters(self.arrays, found[self.files[0]], str(where))

    def put(self, found: Checkpoint, state: TrainerState, where: Path) -> None:
        for name, array in self.arrays.items():
            array[...] = found[self.files[0]][name]


class NeededAverages(Averages):
    files = (ArraysFile(NAME, called="average"),)


def with_owner(monkeypatch, owner):
    monkeypatch.setattr(owners, "OWNERS", (*owners.OWNERS, owner))


@pytest.fixture
def averages(monkeypatch):
    with_owner(monkeypatch, Averages)


def move(trainer, by):
    for array in trainer.model.averages.values():
        array += by


def values(trainer):
    return {name: array.copy() for name, array in trainer.model.averages.items()}


def equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def newest(trainer):
    return checkpoint.newest(trainer.run.checkpoints)


def test_every_file_of_the_format_has_one_owner():
    files = [file for owner in owners.OWNERS for file in owner.files]
    assert sorted(file.name for file in files) == sorted({file.name for file in FILES})
    assert set(files) == set(FILES)


@pytest.mark.usefixtures("averages")
def test_its_file_is_saved_at_once_and_behind_the_training_alike(make_trainer):
    folders = []
    for background in (False, True):
        trainer = make_trainer(folder=f"run{background}", async_save=background, max_steps=6)
        move(trainer, 0.5)
        trainer.train()
        folders.append(newest(trainer))
    first, second = (path.joinpath(NAME).read_bytes() for path in folders)
    assert first == second
    assert NAME in checkpoint.read_manifest(folders[0]).files
    assert checkpoint.problems(folders[0]) == []
    flip(folders[0] / NAME)
    assert [problem.file for problem in checkpoint.problems(folders[0])] == [NAME]


@pytest.mark.usefixtures("averages")
def test_a_background_save_writes_what_it_was_and_not_what_it_became(make_trainer):
    trainer = make_trainer(async_save=True, max_steps=6)
    state = trainer.session.take()
    copy = CheckpointCopy(state)
    before = values(trainer)
    taken = copy.take(state)
    move(trainer, 1.0)
    assert equal(taken[Averages.files[0]], before)


def test_its_copy_is_planned_and_its_bytes_are_counted(make_trainer, monkeypatch):
    def planned(trainer):
        planner = Planner(trainer.model, trainer.config, trainer.optimizer, load_registry())
        return planner.plan().by_family["checkpoint copy"]

    plain = make_trainer(folder="plain", async_save=True)
    before, size = planned(plain), dry_run(plain).checkpoint_bytes
    with_owner(monkeypatch, Averages)
    trainer = make_trainer(async_save=True)
    arrays = trainer.model.averages.values()
    more = copy_bytes(array.nbytes for array in arrays)
    assert planned(trainer) == before + more
    nbytes = CheckpointCopy(trainer.session.take()).nbytes
    assert planned(trainer) <= nbytes <= planned(trainer) + 64 * len(trainer.optimizer.state())
    assert dry_run(trainer).checkpoint_bytes == size + sum(array.nbytes for array in arrays)


@pytest.mark.usefixtures("averages")
def test_it_is_restored(make_trainer):
    trainer = make_trainer(max_steps=6)
    move(trainer, 0.5)
    trainer.train()
    again = make_trainer(folder="again")
    assert not equal(values(again), values(trainer))
    again.load_checkpoint(newest(trainer))
    assert equal(values(again), values(trainer))
    assert again.session.snapshot.differences(newest(trainer), again.state) == []
    first = next(iter(again.model.averages))
    again.model.averages[first][...] += 1.0
    assert again.session.snapshot.differences(newest(trainer), again.state) == [first]


class LearningRates(owners.StateOwner):
    """The learning rate of every update, gathered from what steps return."""

    files = (ArraysFile("rates.safetensors", required=False),)

    def __init__(self, run: owners.Owned) -> None:
        super().__init__(run)
        self.rates: list[float] = []

    def note(self, result: StepResult, state: TrainerState) -> None:
        if result.applied:
            self.rates.append(result.learning_rate)

    def take(self, state: TrainerState) -> Mapping[File[Any], Any]:
        return {self.files[0]: {"rates": np.array(self.rates)}}

    def put(self, found: Checkpoint, state: TrainerState, where: Path) -> None:
        self.rates = found[self.files[0]]["rates"].tolist()


def test_what_an_owner_gathers_of_the_steps_goes_on_after_an_interruption(
    make_trainer, monkeypatch
):
    with_owner(monkeypatch, LearningRates)
    whole = make_trainer(folder="whole", max_steps=6, save_every=3)
    whole.train()
    again = make_trainer(folder="again", max_steps=6)
    again.load_checkpoint(whole.run.checkpoints / "checkpoint-3")
    again.train()
    saved = [checkpoint.read(newest(trainer), LearningRates.files) for trainer in (whole, again)]
    rates, resumed = (found[LearningRates.files[0]]["rates"].tolist() for found in saved)
    assert len(set(rates)) == 6
    assert resumed == rates


@pytest.mark.usefixtures("averages")
def test_a_range_test_puts_it_back(make_trainer):
    trainer = make_trainer()
    before = values(trainer)
    range_test(trainer, Rates(steps=3), on_step=lambda: move(trainer, 1.0))
    assert equal(values(trainer), before)


@pytest.mark.usefixtures("averages")
def test_what_is_not_finite_is_not_saved(make_trainer):
    trainer = make_trainer(max_steps=6)
    name = next(iter(trainer.model.averages))
    trainer.model.averages[name].flat[0] = np.nan
    with pytest.raises(NonFiniteError, match=f"checkpoint-0: average {name} is not finite any m"):
        trainer.save_checkpoint(0, 0)


def test_a_checkpoint_from_before_is_resumed_if_it_is_not_required(make_trainer, monkeypatch):
    old = make_trainer(max_steps=6)
    old.train()
    with_owner(monkeypatch, Averages)
    trainer = make_trainer(folder="new")
    before = values(trainer)
    trainer.load_checkpoint(newest(old))
    assert trainer.current_step == 6
    assert equal(trainer.model.parameters.state(), old.model.parameters.state())
    assert equal(values(trainer), before)


def test_a_checkpoint_from_before_is_refused_if_it_is_required(make_trainer, monkeypatch):
    old = make_trainer(max_steps=6)
    old.train()
    with_owner(monkeypatch, NeededAverages)
    trainer = make_trainer(folder="new")
    before = trainer.model.parameters.data.copy()
    with pytest.raises(CheckpointError) as error:
        trainer.load_checkpoint(newest(old))
    assert str(error.value) == (
        f"{newest(old)}: expected {NAME}, which every checkpoint of this run has, got none; use a "
        "checkpoint of a run that was configured like this one"
    )
    assert trainer.current_step == 0
    assert np.array_equal(trainer.model.parameters.data, before)


@pytest.mark.usefixtures("averages")
def test_one_that_does_not_fit_is_refused_before_anything_changes(make_trainer):
    trainer = make_trainer(max_steps=6)
    trainer.train()
    other = make_trainer(folder="other")
    before = other.model.parameters.data.copy()
    del other.model.averages[next(iter(other.model.averages))]
    with pytest.raises(CheckpointError, match="made for another model: it lacks nothing and has"):
        other.load_checkpoint(newest(trainer))
    assert np.array_equal(other.model.parameters.data, before)
    assert other.current_step == 0


def test_a_run_without_the_owner_leaves_its_file_alone(make_trainer, monkeypatch):
    with monkeypatch.context() as patch:
        with_owner(patch, Averages)
        old = make_trainer(max_steps=6)
        old.train()
    trainer = make_trainer(folder="new")
    trainer.load_checkpoint(newest(old))
    assert trainer.current_step == 6


# --------------------------------------------------------------------------- the model's family


def config_of(path):
    return json.loads((path / "config.json").read_text())


def rewrite(path, values):
    (path / "config.json").write_text(json.dumps(values))
    reseal(path)


def test_a_checkpoint_names_the_family_of_its_model(make_trainer):
    trainer = make_trainer()
    path = trainer.save_checkpoint(0, 0)
    config = config_of(path)
    assert config["tisslm"] == {**trainer.model.config.values(), "family": "gpt2"}
    assert config["architectures"] == ["GPT2LMHeadModel"]


def test_a_checkpoint_that_names_none_is_of_the_first_family(make_trainer, monkeypatch):
    trainer = make_trainer(max_steps=6)
    trainer.train()
    path = newest(trainer)
    save_file(trainer.model.parameters.state(), path / "model.safetensors")
    rewrite(path, trainer.model.config.values())
    again = make_trainer(folder="again")
    again.load_checkpoint(path)
    assert again.current_step == 6
    monkeypatch.setattr(again.model, "family", "other")
    with pytest.raises(CheckpointError, match=r"made with model\.family = 'gpt2', this model has"):
        again.load_checkpoint(path)


def test_a_model_without_shape_and_family_is_saved_and_resumed(make_trainer):
    trainer = make_trainer()
    trainer.model.config, trainer.model.family = None, ""
    trainer.model.exchange = lambda: None
    path = trainer.save_checkpoint(0, 4)
    assert config_of(path) == {}
    again = make_trainer(folder="again")
    again.model.config, again.model.family = None, ""
    again.model.exchange = lambda: None
    again.load_checkpoint(path)
    assert again.current_step == 4


@pytest.mark.parametrize("family", [3, ["gpt2", {}], {"name": "gpt2"}])
def test_a_family_that_is_no_name_is_refused(make_trainer, family):
    trainer = make_trainer()
    path = trainer.save_checkpoint(0, 0)
    config = config_of(path)
    rewrite(path, config | {"tisslm": config["tisslm"] | {"family": family}})
    with pytest.raises(CheckpointError) as error:
        load_model(path)
    assert str(error.value).startswith(
        f"{path}/config.json: family: expected the name of a family of models, got "
    )

"""Runs that average their weights."""

from __future__ import annotations

import itertools
import json
import warnings

import numpy as np
import pytest
from checkpoints import reseal
from embedding_runs import Examples, trainer_of
from tisslm_optimizers.schedule_free import ScheduleFreeAdamW

from tisslm import EmaConfig, TokenDataset, checkpoint, load_model
from tisslm.checkpoint import EMA
from tisslm.errors import CheckpointError, ConfigError, NonFiniteError
from tisslm.registry import load_registry
from tisslm.training.evaluation import evaluate_now
from tisslm.training.memory_plan.planner import Planner
from tisslm.workflows.dry_run import dry_run
from tisslm.workflows.lr_range import Rates, range_test

CONFIG = EmaConfig(decay=0.6)


@pytest.fixture
def make(make_trainer, make_model, tokens):
    """Build a run that averages its weights."""

    def build(folder="run", ema=CONFIG, optimizer="adamw", **config):
        parts = {"ema": ema, "model": make_model(dropout=0.1), "sinks": ["jsonl"]}
        parts["scheduler"] = "constant"
        parts["optimizer"] = optimizer(parts["model"]) if callable(optimizer) else optimizer
        parts["val_dataset"] = TokenDataset(tokens[:120], 16, vocab_size=17)
        return make_trainer(folder=folder, parts=parts, **config)

    return build


def averages(trainer):
    return {name: array.copy() for name, array in trainer.session.parts.average.state().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def at(trainer, step):
    return trainer.run.checkpoints / f"checkpoint-{step}"


def saved(trainer, step):
    return dict(checkpoint.read(at(trainer, step), [EMA])[EMA])


def test_the_weights_have_the_bits_of_a_run_without(make, same_bits):
    plain, averaged = make("plain", None), make("averaged", validation_frequency=2)
    for trainer in (plain, averaged):
        trainer.train()
    assert same_bits(plain, averaged)
    assert "averagings" not in json.loads((at(plain, 6) / "trainer_state.json").read_text())


def test_what_is_evaluated_is_what_the_checkpoint_has(make):
    trainer = make(validation_frequency=3)
    trainer.train()
    found = trainer.state.evaluation
    assert found["eval/ema_loss"] != found["eval/loss"]
    assert {name for name in found if "ema" in name} == {"eval/ema_loss", "eval/ema_accuracy"}
    model, _ = load_model(at(trainer, 6), ema=True)
    parameters = saved(trainer, 6)
    for p in model.parameters:
        assert np.array_equal(p.data, parameters[f"{p.name}/average"])
    weights = {p.name: p.data.copy() for p in trainer.model.parameters}
    with trainer.averaged():
        assert trainer.validate(trainer.val_dataset) == pytest.approx(found["eval/ema_loss"])
        assert equal({p.name: p.data for p in model.parameters}, trainer.model.parameters.state())
    assert equal(weights, trainer.model.parameters.state())
    lines = (trainer.run.path / "metrics.jsonl").read_text().splitlines()
    assert sum("eval/ema_loss" in line for line in lines) == 2
    assert json.loads((trainer.run.path / "summary.json").read_text())["eval_ema_loss"] == (
        pytest.approx(found["eval/ema_loss"])
    )


@pytest.mark.parametrize("background", [False, True])
def test_it_goes_on_with_the_same_bits(make, same_bits, background):
    how = {"save_every": 2, "keep_checkpoints": 9, "validation_frequency": 3}
    whole = make("whole", async_save=background, **how)
    whole.train()
    again = make("again", validation_frequency=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again.load_checkpoint(at(whole, 4))
    assert again.session.parts.average.count == 4
    assert again.session.snapshot.differences(at(whole, 4), again.state) == []
    again.train()
    assert same_bits(whole, again)
    assert equal(averages(whole), averages(again))
    assert equal(saved(whole, 6), averages(whole))


def test_before_it_begins_it_is_the_weights(make):
    trainer = make(ema=EmaConfig(start=5), max_steps=6, validation_frequency=3, save_every=3)
    trainer.train()
    lines = (trainer.run.path / "metrics.jsonl").read_text().splitlines()
    first, last = (json.loads(line) for line in lines if "eval/ema_loss" in line)
    assert first["eval/ema_loss"] == first["eval/loss"]
    assert last["eval/ema_loss"] == pytest.approx(last["eval/loss"])  # begun with the last update
    models = [load_model(at(trainer, 3), ema=ema)[0] for ema in (False, True)]
    assert models[0].parameters.data.tobytes() == models[1].parameters.data.tobytes()
    again = make("again", ema=EmaConfig(start=5))
    again.load_checkpoint(at(trainer, 3))
    again.train()
    assert equal(averages(trainer), averages(again))


def test_it_is_the_weights_of_a_run_that_has_not_begun(make):
    trainer = make()
    before = trainer.model.parameters.data.copy()
    with trainer.averaged():
        assert np.array_equal(trainer.model.parameters.data, before)
    assert np.array_equal(trainer.model.parameters.data, before)
    plain = dry_run(make("plain", None)).checkpoint_bytes
    arrays = trainer.model.parameters.state().values()
    assert dry_run(trainer).checkpoint_bytes - plain == sum(array.nbytes for array in arrays)


def test_a_run_without_goes_on_with_one_that_begins_there(make):
    plain = make("plain", None, max_steps=4)
    plain.train()
    trainer = make("averaged")
    trainer.train()  # elsewhere, so that there is something to forget
    with pytest.warns(RuntimeWarning, match=r"ema\.decay: None then, 0\.6 now"):
        trainer.load_checkpoint(at(plain, 4))
    assert trainer.session.parts.average.count == 0
    trainer.train()
    assert trainer.session.parts.average.count == 2


def test_a_run_that_goes_on_without_says_so(make):
    trainer = make(max_steps=4)
    trainer.train()
    plain = make("plain", None)
    with pytest.warns(RuntimeWarning) as told:
        plain.load_checkpoint(at(trainer, 4))
    assert [str(one.message) for one in told] == [
        f"{at(trainer, 4)}: has averaged weights (ema.safetensors), which this run is without; "
        "give it the section [ema], or leave them"
    ]
    plain.train()
    assert EMA.name not in checkpoint.read_manifest(at(plain, 6)).files


def test_the_best_may_go_by_it(make):
    how = {"validation_frequency": 1, "keep_best": 1, "best_metric": "eval/ema_loss"}
    trainer = make(restore_best=True, learning_rate=0.3, **how)
    trainer.train()
    losses = {}
    for line in (trainer.run.path / "metrics.jsonl").read_text().splitlines():
        found = json.loads(line)
        if "eval/ema_loss" in found:
            losses[found["step"]] = found["eval/ema_loss"]
    best = min(losses, key=losses.get)
    assert trainer.current_step == best
    assert equal(averages(trainer), saved(trainer, best))


def test_a_trial_puts_it_back(make):
    trainer = make()
    range_test(trainer, Rates(steps=3))
    assert trainer.session.parts.average.count == 0
    trainer.train()
    other = make("other")
    other.train()
    assert equal(averages(trainer), averages(other))


def test_it_is_planned(make):
    def planned(trainer, **how):
        planner = Planner(trainer.model, trainer.config, "adamw", load_registry(), **how)
        return planner.plan()

    trainer, plain = make(async_save=True), make("plain", None, async_save=True)
    nbytes = trainer.model.parameters.data.nbytes
    one, other = planned(trainer, averages=True).by_family, planned(plain).by_family
    assert (one["weight average"], "weight average" in other) == (nbytes, False)
    assert one["checkpoint copy"] - other["checkpoint copy"] == pytest.approx(nbytes, abs=4096)
    assert trainer.planned - plain.planned >= 2 * nbytes
    trainer.train()
    plain.train()
    average = dry_run(trainer).checkpoint_bytes - dry_run(plain).checkpoint_bytes
    assert average == sum(array.nbytes for array in averages(trainer).values())


def test_what_is_not_finite_is_not_saved(make):
    trainer = make(max_steps=2)
    trainer.train()
    trainer.session.parts.average.state()["final_norm.weight/average"][3] = np.inf
    with pytest.raises(NonFiniteError, match=r"average final_norm\.weight/average is not finite"):
        trainer.save_checkpoint(0, 2)


def test_a_checkpoint_that_lacks_it_is_refused_before_anything_changes(make):
    trainer = make(max_steps=2)
    trainer.train()
    (at(trainer, 2) / EMA.name).unlink()
    reseal(at(trainer, 2))
    again = make("again")
    before = again.model.parameters.data.copy()
    with pytest.raises(CheckpointError) as caught:
        again.load_checkpoint(at(trainer, 2))
    assert str(caught.value) == (
        f"{at(trainer, 2)}: expected ema.safetensors of a run that averages its weights, got none; "
        "use an earlier checkpoint"
    )
    assert np.array_equal(again.model.parameters.data, before)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_average_of_an_encoder_is_evaluated_by_its_vectors(tmp_path, dtype):
    held_out = {"val_dataset": Examples(8), "validation_frequency": 2}
    trainer = trainer_of(tmp_path, ema=CONFIG, dtype=dtype, learning_rate=0.05, **held_out)
    trainer.train()
    found = trainer.state.evaluation
    assert {n for n in found if "ema" in n} == {"eval/ema_loss", "eval/ema_ndcg_at_10"}
    assert found["eval/ema_loss"] != found["eval/loss"]
    with trainer.averaged():
        assert trainer.validate(trainer.val_dataset) == found["eval/ema_loss"]


def test_an_evaluation_that_is_left_leaves_the_weights(make):
    trainer, plain = make(validation_frequency=4), make("plain", None)
    seen = []

    def leave():
        seen.append(trainer.model.parameters.data.copy())
        if not np.array_equal(seen[-1], seen[0]):  # what is evaluated now is their average
            raise KeyboardInterrupt

    rows = list(itertools.islice(trainer.session.batches("test"), 2))
    for one in rows:
        trainer.session.train_step(one)
        plain.session.train_step(one)
    with pytest.raises(KeyboardInterrupt):
        evaluate_now(trainer.session.parts, trainer.config, trainer.state, trainer.stopping, leave)
    trained = plain.model.parameters.data
    assert np.array_equal(seen[0], trained)
    assert np.array_equal(trainer.model.parameters.data, trained)


def test_what_is_refused(make):
    with pytest.raises(ConfigError) as caught:
        make(optimizer=lambda model: ScheduleFreeAdamW(model.parameters, 1e-2))
    assert str(caught.value) == (
        "[ema]: expected an optimizer without an average of its own, got ScheduleFreeAdamW, "
        "whose average is what is evaluated and saved; leave [ema] out"
    )
    with pytest.raises(ConfigError) as caught:
        make("plain", None, validation_frequency=1, keep_best=1, best_metric="eval/ema_loss")
    assert str(caught.value) == (
        "training.best_metric: expected a section [ema], by which weights are averaged, beside "
        'eval/ema_loss, got none; give the run one, or take "eval/loss"'
    )
    with pytest.raises(ConfigError, match="expected a run that averages them, got one without"):
        make("plain", None).averaged().__enter__()
    with pytest.raises(ConfigError, match="ema: expected an EmaConfig, got dict"):
        make("table", {"decay": 0.9})

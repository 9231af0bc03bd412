"""An optimizer whose state lies flat is saved, resumed, tried and traced like any other."""

from __future__ import annotations

import numpy as np
import pytest
from flat_state import FlatMean, FlatMoments

from tisslm.errors import CheckpointError, NonFiniteError
from tisslm.workflows import dry_run
from tisslm.workflows.lr_range import Rates, range_test

every_class = pytest.mark.parametrize("cls", [FlatMean, FlatMoments])


@pytest.fixture
def make(make_trainer, make_model):
    def build(cls, **config):
        model = make_model(dropout=0.1)
        parts = {"model": model, "optimizer": cls(model.parameters, 1e-2)}
        return make_trainer(parts=parts, **config)

    return build


@every_class
def test_resumed_equals_uninterrupted(make, same_bits, cls):
    whole = make(cls, folder="whole", save_every=3)
    whole.train()
    resumed = make(cls, folder="resumed", resume=str(whole.run.checkpoints / "checkpoint-3"))
    assert resumed.current_step == 3
    resumed.train()
    assert same_bits(whole, resumed)


def test_a_state_of_another_optimizer_is_refused(make, make_trainer):
    whole = make(FlatMean, folder="whole")
    whole.train()
    path = str(whole.run.checkpoints / "checkpoint-6")
    with pytest.raises(CheckpointError, match=r"missing \['count', 'moments'\], unexpected"):
        make(FlatMoments, folder="other", resume=path)


@every_class
def test_a_range_test_leaves_it_and_a_dry_run_is_the_run(make, cls, tmp_path):
    trainer = make(cls)
    before = {name: array.copy() for name, array in trainer.optimizer.state().items()}
    range_test(trainer, Rates(1e-4, 1e-1, 5))
    for name, array in trainer.optimizer.state().items():
        assert array.tobytes() == before[name].tobytes()
    whole = make(cls, folder="whole")
    whole.train()
    assert dry_run.dry_run(make(cls)).losses == tuple(whole.loss_history[:2])


@pytest.mark.parametrize(("cls", "slot"), [(FlatMean, "mean"), (FlatMoments, "moments")])
def test_a_number_that_is_not_finite_is_traced_to_it(make, cls, slot):
    trainer = make(cls, max_nonfinite=1)
    batch = next(trainer.dataset.batches(3, 42))
    qkv = trainer.model.parameters["blocks.0.attention.qkv.weight"]
    flat = trainer.optimizer.state()[slot].reshape(-1, trainer.model.parameters.data.size)
    flat[-1, qkv.offset + 90 * qkv.shape[1] + 31] = np.nan
    trainer.train_step(*batch)
    with pytest.raises(NonFiniteError) as caught:
        trainer.train_step(*batch)
    assert (
        f"{cls.__name__}.update made the parameter NaN from the optimizer's "
        f"blocks.0.attention.qkv.weight/{slot}[90, 31], which is NaN"
    ) in str(caught.value)

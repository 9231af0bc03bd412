"""A NaN planted in a run of the command line is traced to its origin, and does not come again."""

from __future__ import annotations

import json

import numpy as np
import pytest
from poison import Poison

from tisslm import ops
from tisslm.training.session import Session

PRINTED = pytest.mark.filterwarnings("always")

#: The step in which something is planted.
STEP = 3


def in_a_weight(parts):
    parts.model.parameters["blocks.0.mlp.down.weight"].data[2, 60] = np.nan


def in_a_state(parts):
    parts.optimizer.state()["blocks.0.attention.out.weight/v"][15, 0] = np.nan


ACTIVATION = Poison(
    "linear_activation_forward", "blocks.0.mlp", "forward", "a_NO", (17, 9), micro=1, micros=2
)
GRADIENT = Poison(
    "linear_backward", "blocks.0.attention", "backward", "dw_OC", (15, 15), micro=1, micros=2
)

#: What is planted; the step that fails; what is said.
PLANTED = {
    "weight": (
        in_a_weight,
        STEP,
        "first in blocks.0.mlp, forward: the parameter blocks.0.mlp.down.weight[2, 60] is NaN "
        "where linear_forward reads it (micro-batch 0)",
    ),
    "activation": (
        ACTIVATION,
        STEP,
        "first in blocks.0.mlp, forward: linear_activation_forward made a_NO[17, 9] NaN "
        "(micro-batch 1, row 5, window {window}, token 1)",
    ),
    "gradient": (
        GRADIENT,
        STEP,
        "first in blocks.0.attention, backward: linear_backward made the gradient of "
        "blocks.0.attention.out.weight[15, 15] NaN (micro-batch 1)",
    ),
    "state": (
        in_a_state,
        STEP + 1,
        "first in blocks.0.attention, update: adamw.update made the parameter NaN from the "
        "optimizer's blocks.0.attention.out.weight/v[15, 0], which is NaN",
    ),
}


@PRINTED
@pytest.mark.parametrize("what", PLANTED)
def test_what_is_planted_is_located(cli, train, folder, monkeypatch, what):
    plant, step, said = PLANTED[what]
    train_step = Session.train_step

    def planting(session, batch):
        if session.state.step + 1 != STEP:
            return train_step(session, batch)
        if not isinstance(plant, Poison):
            plant(session.parts)
            return train_step(session, batch)
        with ops.watching(plant), session.parts.model.observed(plant):
            return train_step(session, batch)

    monkeypatch.setattr(Session, "train_step", planting)
    result = train(
        "training.output_dir=run",
        "training.save_every=2",
        "training.gradient_accumulation_steps=2",
        "training.on_nonfinite=stop",
        "model.dropout=0.1",
    )
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    file = f"run/nonfinite-step-{step}.json"
    known = json.loads((folder / file).read_text())
    assert result.code == 4
    assert f"; {said.format(window=known['windows'][5])}; the parameters are" in result.err
    assert f"To make it again: tisslm replay run --file {file}\n" in result.err
    again = cli("replay", "run", "--file", file)  # from before what was planted
    assert again.code == 1
    assert "run again, the same window has a loss of 3." in again.out
    assert "NOT what the run found: what it met was not made by its own steps" in again.out

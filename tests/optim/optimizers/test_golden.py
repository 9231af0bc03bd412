"""Every optimizer walks where PyTorch's walks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tolerances import FLOAT64_ROUNDING, largest_error

from tisslm.memory import Parameters, ParameterSpec
from tisslm.optim.optimizers import SGD, Adam, AdamW, RMSprop

CLASSES = {"sgd": SGD, "adam": Adam, "adamw": AdamW, "rmsprop": RMSprop}

with np.load(Path(__file__).with_name("golden.npz")) as file:
    GOLDEN = {name: file[name] for name in file.files}
CONFIGS = json.loads(str(GOLDEN["configs"]))

#: Five float32 updates against float64: each rounds a parameter to 6e-8 of itself.
FIVE_FLOAT32_UPDATES = 1e-6


def test_the_file_has_cases_for_every_optimizer():
    assert {name for name, _ in CONFIGS.values()} == set(CLASSES)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", FLOAT64_ROUNDING), ("float32", FIVE_FLOAT32_UPDATES)]
)
@pytest.mark.parametrize("case", CONFIGS)
def test_every_step_equals_pytorchs(case, dtype, tolerance):
    name, options = CONFIGS[case]
    start = [GOLDEN["start/0"], GOLDEN["start/1"]]
    parameters = Parameters(
        [
            ParameterSpec("0", start[0].shape),
            ParameterSpec("1", start[1].shape, decay=False, lr_scale=0.5),
        ],
        dtype,
    )
    for i in range(2):
        parameters[str(i)].data[...] = start[i]
    optimizer = CLASSES[name](parameters, float(GOLDEN["lr"]), **options)
    for t in range(len(GOLDEN["gradients/0"])):
        optimizer.zero_grad()
        for i in range(2):
            parameters[str(i)].grad_to_write()[0][...] = GOLDEN[f"gradients/{i}"][t]
        optimizer.step()
        for i in range(2):
            error = largest_error(parameters[str(i)].data, GOLDEN[f"{case}/{i}"][t])
            assert error < tolerance, f"step {t + 1}, tensor {i}"

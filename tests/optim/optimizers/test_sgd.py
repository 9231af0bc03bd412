"""SGD by hand, on numbers that float32 holds exactly."""

from __future__ import annotations

import pytest

from tisslm.memory import ParameterSpec
from tisslm.optim.optimizers import SGD


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # p = 1, g = 0.5, lr = 0.25, three steps
        ({}, [0.875, 0.75, 0.625]),
        # d = 0.5 + 0.5 p
        ({"weight_decay": 0.5}, [0.75, 0.53125, 0.33984375]),
        # b = 0.5, 0.75, 0.875
        ({"momentum": 0.5}, [0.875, 0.6875, 0.46875]),
        # d + b / 2 = 0.75, 0.875, 0.9375
        ({"momentum": 0.5, "nesterov": True}, [0.8125, 0.59375, 0.359375]),
    ],
)
def test_three_steps(make_parameters, options, expected):
    parameters = make_parameters(specs=(ParameterSpec("w", (1,)),))
    parameters["w"].data[...] = 1.0
    parameters["w"].grad_to_write()[0][...] = 0.5
    optimizer = SGD(parameters, 0.25, **options)
    path = []
    for _ in range(3):
        optimizer.step()
        path.append(float(parameters["w"].data[0]))
    assert path == expected


def test_without_momentum_there_is_no_state_but_the_count(make_parameters):
    assert list(SGD(make_parameters(), 0.1).state()) == ["step"]

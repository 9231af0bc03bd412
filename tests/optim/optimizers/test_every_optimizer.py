"""What holds for every built-in optimizer: clipping, state, groups, padding."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm.errors import CheckpointError, ConfigError
from tisslm.memory import ParameterSpec
from tisslm.optim import optimizers
from tisslm.optim.optimizers import SGD, Adam, AdamW, RMSprop

CASES = {
    "sgd": (SGD, {}, ()),
    "sgd_momentum": (SGD, {"momentum": 0.9}, ("momentum",)),
    "sgd_nesterov": (SGD, {"momentum": 0.9, "nesterov": True}, ("momentum",)),
    "adam": (Adam, {}, ("m", "v")),
    "adamw": (AdamW, {}, ("m", "v")),
    "rmsprop": (RMSprop, {}, ("square",)),
    "rmsprop_momentum": (RMSprop, {"momentum": 0.9}, ("square", "momentum")),
    "rmsprop_centered": (RMSprop, {"centered": True}, ("square", "average")),
}
every_optimizer = pytest.mark.parametrize(
    ("make", "options"), [case[:2] for case in CASES.values()], ids=CASES.keys()
)
both_types = pytest.mark.parametrize("dtype", ["float32", "float64"])
LR = 0.03


def test_every_built_in_optimizer_has_a_case():
    assert {make.__name__ for make, _, _ in CASES.values()} == set(optimizers.__all__)


def train(optimizer, set_gradients, steps):
    for t in steps:
        optimizer.zero_grad()
        set_gradients(optimizer.parameters, t)
        optimizer.step()


@both_types
@every_optimizer
def test_both_ways_of_clipping_give_the_same_bits(
    make_parameters, set_gradients, make, options, dtype
):
    fused = make(make_parameters(dtype), LR, weight_decay=0.1, **options)
    apart = make(make_parameters(dtype), LR, weight_decay=0.1, **options)
    assert fused.takes_grad_scale
    for t in range(3):
        for optimizer in (fused, apart):
            optimizer.zero_grad()
            set_gradients(optimizer.parameters, t)
        fused.scale_next_step(0.123456789)
        apart.parameters.scale_grad(0.123456789)
        fused.step()
        apart.step()
    assert fused.parameters.data.tobytes() == apart.parameters.data.tobytes()
    for name, array in fused.state().items():
        assert array.tobytes() == apart.state()[name].tobytes()


@every_optimizer
def test_a_clip_holds_for_one_step_and_leaves_the_gradients(
    make_parameters, set_gradients, make, options
):
    clipped = make(make_parameters(), LR, **options)
    set_gradients(clipped.parameters, 0)
    before = clipped.parameters.grad.copy()
    clipped.scale_next_step(0.0)
    clipped.step()
    assert np.array_equal(clipped.parameters.grad, before)
    after_clip = clipped.parameters.data.copy()
    clipped.step()
    assert not np.array_equal(clipped.parameters.data, after_clip)


@both_types
@every_optimizer
def test_a_restored_state_goes_on_with_the_same_bits(
    make_parameters, set_gradients, make, options, dtype
):
    whole = make(make_parameters(dtype), LR, weight_decay=0.1, **options)
    train(whole, set_gradients, range(3))
    saved = {name: array.copy() for name, array in whole.state().items()}
    data = whole.parameters.data.copy()
    train(whole, set_gradients, range(3, 6))

    resumed = make(make_parameters(dtype), LR, weight_decay=0.1, **options)
    train(resumed, set_gradients, range(7, 9))  # a state that must be overwritten, counter and all
    resumed.load_state(saved)
    resumed.parameters.data[...] = data
    train(resumed, set_gradients, range(3, 6))
    assert resumed.parameters.data.tobytes() == whole.parameters.data.tobytes()
    for name, array in whole.state().items():
        assert array.tobytes() == resumed.state()[name].tobytes(), name


@both_types
@pytest.mark.parametrize(("make", "options", "slots"), CASES.values(), ids=CASES.keys())
def test_state_is_cut_by_parameter_and_slot(
    make_parameters, set_gradients, make, options, slots, dtype
):
    optimizer = make(make_parameters(dtype), LR, **options)
    train(optimizer, set_gradients, range(2))
    state = optimizer.state()
    expected = {f"{p.name}/{slot}": p.shape for p in optimizer.parameters for slot in slots}
    assert {name: array.shape for name, array in state.items()} == {**expected, "step": (1,)}
    assert state["step"].dtype == np.int64
    assert state["step"][0] == 2
    for name in expected:
        assert state[name].dtype == dtype
        assert np.abs(state[name]).max() > 0


@every_optimizer
def test_a_state_that_does_not_fit_is_refused_and_nothing_changes(
    make_parameters, set_gradients, make, options
):
    optimizer = make(make_parameters(), LR, **options)
    train(optimizer, set_gradients, range(1))
    before = {name: array.copy() for name, array in optimizer.state().items()}
    with pytest.raises(CheckpointError, match="the saved state does not fit"):
        optimizer.load_state({**before, "head/m": np.ones(3)})
    assert all(np.array_equal(optimizer.state()[name], before[name]) for name in before)


@every_optimizer
def test_decay_leaves_out_what_does_not_decay(make_parameters, make, options):
    parameters = make_parameters()
    before = {p.name: p.data.copy() for p in parameters}
    optimizer = make(parameters, LR, weight_decay=0.1, **options)
    optimizer.zero_grad()
    optimizer.step()  # all gradients are zero: only decay moves anything
    for name in ("embed", "up"):
        assert np.all((parameters[name].data - before[name]) * before[name] < 0)
    for name in ("bias", "norm"):
        assert np.array_equal(parameters[name].data, before[name])


@every_optimizer
def test_lr_scale_multiplies_the_learning_rate(make_parameters, set_gradients, make, options):
    halved, plain = (
        make(make_parameters(specs=(ParameterSpec("w", (20,), lr_scale=scale),)), lr, **options)
        for scale, lr in ((0.5, LR), (1.0, LR / 2))
    )
    for optimizer in (halved, plain):
        train(optimizer, set_gradients, range(3))
    assert halved.parameters.data.tobytes() == plain.parameters.data.tobytes()


@every_optimizer
def test_a_rate_of_zero_moves_no_parameter_but_the_state(
    make_parameters, set_gradients, make, options
):
    optimizer = make(make_parameters(), LR, weight_decay=0.1, **options)
    before = optimizer.parameters.data.copy()
    optimizer.set_lr(0.0)
    train(optimizer, set_gradients, range(2))
    assert np.array_equal(optimizer.parameters.data, before)
    assert optimizer.state()["step"][0] == 2
    optimizer.set_lr(LR)
    train(optimizer, set_gradients, range(2, 3))
    assert not np.array_equal(optimizer.parameters.data, before)


@pytest.mark.parametrize("size", [1e18, 1e20])
@pytest.mark.parametrize(
    ("make", "options", "rates"),
    [
        (Adam, {}, 1),
        (AdamW, {"weight_decay": 0.0}, 1),
        (RMSprop, {}, 10),
        (RMSprop, {"momentum": 0.9}, 10),
        (RMSprop, {"centered": True}, 1 / np.sqrt(0.01 - 0.01**2)),
    ],
)
def test_huge_gradients_move_by_learning_rates_as_any_others_do(
    make_parameters, make, options, rates, size
):
    """The first step of Adam is lr sign(g), that of RMSprop lr sign(g) / sqrt(1 - alpha)."""
    parameters = make_parameters("float32")
    before = {p.name: p.data.copy() for p in parameters}
    optimizer = make(parameters, LR, **options)
    rng = np.random.default_rng(0)
    for p in parameters:
        g = size * rng.choice([-1.0, 1.0], p.shape) * rng.uniform(0.1, 1, p.shape)
        p.grad_to_write()[0][...] = g
    optimizer.step()
    for p in parameters:
        expected = before[p.name] - LR * p.lr_scale * rates * np.sign(p.grad)
        # roundings of a parameter of size 3, and of the step beside it
        assert np.abs(p.data - expected).max() < 2e-6


@every_optimizer
def test_a_gradient_that_nobody_wrote_counts_as_zero(make_parameters, set_gradients, make, options):
    stale, fresh = (make(make_parameters(), LR, **options) for _ in range(2))
    for optimizer in (stale, fresh):
        train(optimizer, set_gradients, range(1))
        optimizer.zero_grad()
    fresh.parameters.grad_arena[...] = 0
    for optimizer in (stale, fresh):
        optimizer.parameters["up"].grad_to_write()[0][...] = 0.5
        optimizer.step()
    assert stale.parameters.data.tobytes() == fresh.parameters.data.tobytes()


@both_types
@every_optimizer
def test_padding_stays_zero(make_parameters, set_gradients, make, options, dtype):
    optimizer = make(make_parameters(dtype), LR, weight_decay=0.1, **options)
    train(optimizer, set_gradients, range(3))
    padding = np.ones(optimizer.parameters.data.size, bool)
    for p in optimizer.parameters:
        padding[p.offset : p.offset + p.data.size] = False
    assert padding.any()
    assert not optimizer.parameters.data[padding].any()


@every_optimizer
def test_steps_are_counted_and_the_founding_form_holds(make_parameters, make, options):
    optimizer = make(make_parameters(), LR, **options)
    assert optimizer.get_lr() == optimizer.base_lr == LR
    optimizer.step()
    assert optimizer.parameters.updates == 1
    with pytest.raises(TypeError, match="positional"):
        make(make_parameters(), LR, 0.9)


@every_optimizer
def test_a_frozen_parameter_has_no_state_and_stays(make_parameters, set_gradients, make, options):
    parameters = make_parameters(
        specs=(ParameterSpec("w", (4,)), ParameterSpec("frozen", (3,), trainable=False))
    )
    before = parameters["frozen"].data.copy()
    optimizer = make(parameters, LR, weight_decay=0.1, **options)
    parameters["w"].grad_to_write()[0][...] = 1
    optimizer.step()
    assert np.array_equal(parameters["frozen"].data, before)
    assert not any("frozen" in name for name in optimizer.state())


BAD_OPTIONS = [
    (SGD, {"momentum": 1.0}, "optimizer sgd: momentum: expected a number in [0, 1), got 1.0"),
    (SGD, {"momentum": "0.9"}, "optimizer sgd: momentum: expected a number in [0, 1), got '0.9'"),
    (SGD, {"nesterov": 1}, "optimizer sgd: nesterov: expected true or false, got 1"),
    (
        SGD,
        {"weight_decay": -0.1},
        "optimizer sgd: weight_decay: expected a finite number >= 0, got -0.1",
    ),
    (
        SGD,
        {"nesterov": True},
        "optimizer sgd: nesterov: expected momentum > 0 with it, got momentum 0; "
        "set momentum (0.9 is usual) or leave nesterov out",
    ),
    (Adam, {"beta1": -0.1}, "optimizer adam: beta1: expected a number in [0, 1), got -0.1"),
    (Adam, {"beta2": True}, "optimizer adam: beta2: expected a number in [0, 1), got True"),
    (Adam, {"eps": 0}, "optimizer adam: eps: expected a finite number >= 1e-30, got 0"),
    (Adam, {"eps": 9e-31}, "optimizer adam: eps: expected a finite number >= 1e-30, got 9e-31"),
    (
        Adam,
        {"weight_decay": True},
        "optimizer adam: weight_decay: expected a finite number >= 0, got True",
    ),
    (
        Adam,
        {"weight_decay": float("inf")},
        "optimizer adam: weight_decay: expected a finite number >= 0, got inf",
    ),
    (AdamW, {"beta1": 1.5}, "optimizer adamw: beta1: expected a number in [0, 1), got 1.5"),
    (AdamW, {"beta2": 1}, "optimizer adamw: beta2: expected a number in [0, 1), got 1"),
    (AdamW, {"eps": -1e-8}, "optimizer adamw: eps: expected a finite number >= 1e-30, got -1e-08"),
    (AdamW, {"eps": 1e-45}, "optimizer adamw: eps: expected a finite number >= 1e-30, got 1e-45"),
    (
        AdamW,
        {"weight_decay": None},
        "optimizer adamw: weight_decay: expected a finite number >= 0, got None",
    ),
    (
        RMSprop,
        {"alpha": float("nan")},
        "optimizer rmsprop: alpha: expected a number in [0, 1), got nan",
    ),
    (RMSprop, {"eps": 0.0}, "optimizer rmsprop: eps: expected a finite number >= 1e-30, got 0.0"),
    (
        RMSprop,
        {"eps": 1e-45},
        "optimizer rmsprop: eps: expected a finite number >= 1e-30, got 1e-45",
    ),
    (RMSprop, {"momentum": 2}, "optimizer rmsprop: momentum: expected a number in [0, 1), got 2"),
    (
        RMSprop,
        {"weight_decay": -1},
        "optimizer rmsprop: weight_decay: expected a finite number >= 0, got -1",
    ),
    (
        RMSprop,
        {"centered": "yes"},
        "optimizer rmsprop: centered: expected true or false, got 'yes'",
    ),
]


@pytest.mark.parametrize(("make", "options", "message"), BAD_OPTIONS)
def test_a_bad_option_is_named(make_parameters, make, options, message):
    with pytest.raises(ConfigError) as caught:
        make(make_parameters(), LR, **options)
    assert str(caught.value) == message


def test_integers_and_numpy_numbers_are_numbers(make_parameters):
    optimizer = AdamW(make_parameters(), LR, beta1=0, beta2=np.float32(0.5), eps=1)
    assert (optimizer.beta1, optimizer.beta2, optimizer.eps) == (0.0, 0.5, 1.0)

"""From gradients of leaves to an update: the same bits for any number of ranks."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
from thread_ranks import run_ranks

from tisslm.contracts.pass_observer import Observed, enter, leave
from tisslm.memory import Parameters, ParameterSpec
from tisslm.optim.optimizers.adamw import AdamW
from tisslm.optim.optimizers.sgd import SGD
from tisslm.training.ranks import layout
from tisslm.training.ranks.communicators.local import LocalCommunicator
from tisslm.training.ranks.reduction import waiting_arrays
from tisslm.training.ranks.share import Share
from tisslm.training.ranks.shared import make_reduction
from tisslm.training.ranks.states import lead

#: Five blocks of 16384, so that one rank of six owns nothing.
SPECS = [
    ParameterSpec("first.weight", (3, 16384)),
    ParameterSpec("second.weight", (100, 200)),
    ParameterSpec("second.bias", (100,), decay=False),
]
STEPS, PARTS = 3, 8


@pytest.fixture(autouse=True)
def _small_buckets(monkeypatch):
    """Cut what these tests have into three buckets."""
    monkeypatch.setattr(layout, "BUCKET_BYTES", 2 * 16384 * 4)


def leaf_gradient(name: str, shape: tuple[int, ...], step: int, leaf: int) -> np.ndarray:
    """Return the gradient that a leaf has of a parameter."""
    rng = np.random.default_rng((step, leaf, len(name)))
    return rng.standard_normal(shape, dtype=np.float32)


def backward(model, step, leaf):
    """Leave the gradients of a leaf, as a pass does: last parts first, and each announced."""
    for parameter in reversed(list(model.parameters)):
        place = parameter.name.rpartition(".")[0]
        enter(model.observers, place, "backward")
        if not parameter.name.endswith("bias") or leaf % 3:  # in some leaves it has none
            parameter.grad[...] = leaf_gradient(parameter.name, parameter.shape, step, leaf)
        leave(model.observers, place, "backward", {})


class Bare(Observed):
    """A model of parameters alone, whose passes are these tests' own."""

    asks_for_values = True

    def __init__(self) -> None:
        self.parameters = Parameters(SPECS)


def train(communicator, optimizer_class=AdamW, present=(PARTS, PARTS, 5)):
    """Make some updates; return the parameters, norms, and what a checkpoint has of the state."""
    model = Bare()
    parameters = model.parameters
    for parameter in parameters:
        parameter.data[...] = leaf_gradient(parameter.name, parameter.shape, 99, 0)
    share = Share(PARTS, 1, PARTS, communicator.rank, communicator.size)
    reduction = make_reduction(model, share, communicator)
    optimizer = optimizer_class(reduction.updated, 1e-2)
    norms = []
    with reduction.overlapped():
        for step in range(STEPS):
            optimizer.zero_grad()
            reduction.begin(present[step])
            own = [leaf for leaf in share.leaves if leaf < present[step]]
            for leaf in own:
                parameters.fresh_part()
                with reduction.announced(leaf) if leaf == own[-1] else nullcontext():
                    backward(model, step, leaf)
                reduction.add_leaf(leaf, last=leaf == own[-1])
            reduction.finish()
            norms.append(reduction.updated.grad_norm())
            optimizer.scale_next_step(0.5)
            optimizer.step()
            reduction.publish()
    data = parameters.data_arena.copy()  # all are there, whether or not anybody asks
    whole = reduction.whole_state(optimizer.state())
    state = lead([whole], lambda: {name: np.array(whole[name]) for name in whole})
    reduction.publish_gradient()
    return data, parameters.grad.copy(), norms, state, parameters.updates


@pytest.fixture(scope="module", params=[AdamW, SGD], ids=["adamw", "sgd"])
def optimizer_class(request):
    return request.param


@pytest.fixture(scope="module")
def alone(optimizer_class):
    return train(LocalCommunicator(), optimizer_class)


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6, 8, 11])
def test_any_number_of_ranks_has_the_bits_of_one(alone, optimizer_class, size):
    data, grad, norms, state, updates = alone
    found = run_ranks(size, lambda communicator: train(communicator, optimizer_class))
    for rank, (their_data, their_grad, their_norms, their_state, their_updates) in enumerate(found):
        assert np.array_equal(their_data, data)
        assert np.array_equal(their_grad, grad)
        assert their_norms == norms
        assert their_updates == updates == STEPS
        assert (their_state is None) == (rank > 0)
    assert list(found[0][3]) == list(state)
    for name, array in state.items():
        assert np.array_equal(found[0][3][name], array), name
        assert found[0][3][name].dtype == array.dtype


@pytest.mark.parametrize("size", [2, 3, 5])
def test_a_state_of_the_whole_is_cut_for_each_rank(alone, optimizer_class, size):
    state = alone[3]

    def load(communicator):
        model = Bare()
        share = Share(PARTS, 1, PARTS, communicator.rank, communicator.size)
        reduction = make_reduction(model, share, communicator)
        optimizer = optimizer_class(reduction.updated, 1e-2)
        parts = {name: reduction.own_part(name, array) for name, array in state.items()}
        optimizer.load_state({name: part for name, part in parts.items() if part is not None})
        whole = reduction.whole_state(optimizer.state())
        return lead([whole], lambda: {name: np.array(whole[name]) for name in whole})

    found = run_ranks(size, load)[0]
    assert all(np.array_equal(found[name], array) for name, array in state.items())


def test_memory_of_the_state_is_shared_out():
    def count(communicator):
        share = Share(PARTS, 1, PARTS, communicator.rank, communicator.size)
        reduction = make_reduction(Bare(), share, communicator)
        return sum(a.nbytes for n, a in AdamW(reduction.updated, 1e-2).state().items() if "/" in n)

    alone = count(LocalCommunicator())
    found = run_ranks(3, count)
    assert sum(found) == alone
    assert max(found) <= alone / 3 + 2 * 16384 * 8


def test_an_update_that_is_dropped_leaves_nothing_behind(alone):
    model = Bare()
    parameters = model.parameters
    reduction = make_reduction(model, Share(4, 1, 4), LocalCommunicator())
    reduction.begin(4)
    for leaf in (0, 1, 2):
        parameters.fresh_part()
        for parameter in parameters:
            parameter.grad[...] = 7.0
        reduction.add_leaf(leaf, last=False)
    reduction.begin(4)
    for leaf in range(4):
        parameters.fresh_part()
        for parameter in parameters:
            parameter.grad[...] = 1.0
        reduction.add_leaf(leaf, last=leaf == 3)
    reduction.finish()
    assert parameters["first.weight"].grad.max() == 4.0


@pytest.mark.parametrize(
    ("parts", "size", "most"),
    [(1, 1, 0), (2, 1, 1), (4, 1, 2), (8, 1, 3), (8, 8, 0), (8, 4, 1), (8, 3, 2), (3, 1, 1)],
)
def test_arrays_that_wait_are_counted(parts, size, most):
    assert max(waiting_arrays(Share(8, 1, parts, rank, size)) for rank in range(size)) == most


def test_whole_parameters_are_dealt_to_who_has_least():
    """Neither large ones nor the rest lie with one rank, and each belongs to one bucket."""
    sizes = [(400, 100), *[(100, 100)] * 12, *[(100,)] * 12]
    parameters = Parameters([ParameterSpec(f"p{i}", shape) for i, shape in enumerate(sizes)])
    buckets = layout.buckets_of(parameters, 4, shaped=True)
    covered = sorted((bucket.start, bucket.stop) for bucket in buckets)
    assert [a for a, _ in covered] == [0, *(b for _, b in covered[:-1])]
    assert covered[-1][1] == parameters.data.size
    assert {a for a, _ in covered} <= {p.offset for p in parameters}
    shares = [sum(b - a for a, b in layout.ranges_of(buckets, rank)) for rank in range(4)]
    assert sum(shares) == parameters.data.size
    assert max(shares) <= 1.05 * parameters.data.size / 4

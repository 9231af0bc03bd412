"""Arenas, parameters and their gradients, the workspace."""

from __future__ import annotations

import errno
import mmap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisslm.errors import ShapeError
from tisslm.memory import Arena, Parameters, ParameterSpec, Workspace


@given(st.lists(st.integers(1, 500), min_size=1, max_size=8))
def test_an_arena_gives_aligned_zeroed_disjoint_arrays(sizes):
    arena = Arena(sum(-(-n * 4 // 64) * 64 for n in sizes))
    arrays = [arena.take((n,), np.float32) for n in sizes]
    for i, array in enumerate(arrays):
        assert array.ctypes.data % 64 == 0
        assert not array.any()
        array[...] = i + 1
    assert all((array == i + 1).all() for i, array in enumerate(arrays))


def test_an_arena_has_an_end():
    arena = Arena(64)
    arena.take((16,), np.float32)
    with pytest.raises(ShapeError, match="arena: 8 bytes wanted, 0 left"):
        arena.take((2,), np.float32)


def test_an_arena_does_without_huge_pages_where_the_kernel_has_none(monkeypatch):
    class Refusing(mmap.mmap):
        def madvise(self, *_):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(mmap, "mmap", Refusing)
    assert Arena(64).take((16,), np.float32).shape == (16,)


@pytest.fixture
def parameters():
    return Parameters(
        [
            ParameterSpec("bias", (3,), decay=False),
            ParameterSpec("matrix", (5, 7)),
            ParameterSpec("frozen", (4,), trainable=False),
            ParameterSpec("slow", (2, 2), lr_scale=0.5),
        ]
    )


def test_parameters_are_grouped_and_padded(parameters):
    assert [(g.decay, g.lr_scale) for g in parameters.groups] == [
        (True, 0.5),
        (True, 1.0),
        (False, 1.0),
    ]
    assert [p.name for p in parameters] == ["bias", "matrix", "frozen", "slow"]
    assert parameters.count == 3 + 35 + 4
    assert parameters.data.size == 16 + 48 + 16
    assert all(p.data.ctypes.data % 64 == 0 for p in parameters)
    parameters["matrix"].data[...] = 2.0
    group = next(g for g in parameters.groups if g.decay and g.lr_scale == 1.0)
    assert parameters.data[group.slice].sum() == 70.0  # padding stays zero


def test_flat_arrays_are_cut_by_parameter_and_padding_is_left_out(parameters):
    P = parameters.data.size
    one, two = np.arange(P), np.arange(2 * P).reshape(2, P)
    found = parameters.by_parameter({"one": one, "step": np.ones(1), "two": two})
    trainable = [p for p in parameters if p.trainable]
    names = [f"{p.name}/{slot}" for p in trainable for slot in ("one", "two")]
    assert list(found) == ["step", *names]
    for p in trainable:
        inside = slice(p.offset, p.offset + p.data.size)
        assert np.array_equal(found[f"{p.name}/one"], one[inside].reshape(p.shape))
        assert np.array_equal(found[f"{p.name}/two"][1], two[1, inside].reshape(p.shape))
        assert np.shares_memory(found[f"{p.name}/two"], two)


def test_the_first_contribution_overwrites_and_later_ones_add(parameters):
    matrix = parameters["matrix"]
    matrix.grad[...] = 3.0
    parameters.zero_grad()
    grad, accumulate = matrix.grad_to_write()
    assert not accumulate
    assert (grad == 3.0).all()  # nothing was zeroed
    grad[...] = 1.0
    assert matrix.grad_to_write()[1]
    parameters.zero_grad()
    assert not matrix.grad.any()
    assert matrix.grad_to_write()[1]


def test_the_flat_gradient_shows_zeros_where_nothing_was_added(parameters):
    for p in parameters:
        if p.trainable:
            p.grad[...] = 1.0
    parameters.zero_grad()
    parameters["slow"].grad_to_write()[0][...] = 2.0
    assert parameters.grad.sum() == 8.0
    parameters.scale_grad(0.5)
    assert parameters["slow"].grad.sum() == 4.0


def test_wrong_names_are_explained(parameters):
    with pytest.raises(ShapeError, match="no parameter 'nothing'; known: bias, matrix"):
        parameters["nothing"]
    with pytest.raises(ShapeError, match="frozen: a frozen parameter has no gradient"):
        parameters["frozen"].grad_to_write()
    with pytest.raises(ShapeError, match="two parameters have the same name"):
        Parameters([ParameterSpec("a", (1,)), ParameterSpec("a", (2,))])


def test_a_workspace_is_viewed_by_smaller_shapes():
    workspace = Workspace({"a": 400, "b": 64})
    assert workspace.nbytes == 464
    assert workspace.fits({"a": 300})
    assert not workspace.fits({"a": 401})
    assert not workspace.fits({"c": 1})
    whole = workspace.view("a", (10, 10), np.float32)
    whole[...] = 1.0
    assert workspace.view("a", (5,), np.float32).sum() == 5.0
    assert not workspace.view("b", (16,), np.float32).any()

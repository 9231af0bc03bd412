"""The harness of these tests: it sees a kernel that strays, and leaves memory as it promises."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture
def stand_in(monkeypatch, kernel_module):
    """Return a function that installs a Python function as the kernel ``stand_in.act``."""
    kernel_module("threads")

    def install(function):
        module = ModuleType("tisslm._kernels.stand_in")
        module.act = function
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return install


def run(run_kernel, out):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    return run_kernel("stand_in", "act", {"x_NC": x, "y_NC": np.zeros_like(x)}, out, 3)


def test_results_and_code_come_back(run_kernel, stand_in):
    def act(x_NC, y_NC, n_threads):
        y_NC[...] = x_NC * n_threads
        return 7

    stand_in(act)
    after, code = run(run_kernel, {"y_NC"})
    assert np.array_equal(after["y_NC"], [[0, 3, 6], [9, 12, 15]])
    assert code == 7


@pytest.mark.parametrize("place", [0, 16, -17, -1])
def test_a_write_outside_is_seen(run_kernel, stand_in, place):
    def act(x_NC, y_NC, n_threads):
        y_NC.base[place] = 0

    stand_in(act)
    with pytest.raises(AssertionError, match="act writes outside its arrays"):
        run(run_kernel, {"y_NC"})


def test_a_read_outside_brings_nan(run_kernel, stand_in):
    def act(x_NC, y_NC, n_threads):
        y_NC[...] = np.roll(x_NC.base, -1)[17:23].reshape(2, 3)

    stand_in(act)
    after, _ = run(run_kernel, {"y_NC"})
    assert np.isnan(after["y_NC"][1, 2])


def test_what_is_no_output_is_read_only(run_kernel, stand_in):
    def act(x_NC, y_NC, n_threads):
        x_NC[0, 0] = 1

    stand_in(act)
    with pytest.raises(ValueError, match="read-only"):
        run(run_kernel, {"y_NC"})


def test_an_argument_given_twice_is_one_array(run_kernel, stand_in):
    def act(x_NC, y_NC, n_threads):
        assert x_NC is y_NC

    stand_in(act)
    x = np.zeros((2, 3), np.float32)
    run_kernel("stand_in", "act", {"x_NC": x, "y_NC": x}, {"y_NC"})

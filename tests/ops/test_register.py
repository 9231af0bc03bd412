"""The door for kernels of plugins: what is put around one, and what is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES

import numpy as np
import pytest

from tisslm import ops
from tisslm.errors import DataError, PluginError, TissLMError
from tisslm.ops import door, plugin_kernels
from tisslm.ops.operands import operands_read, operands_written
from tisslm.ops.runtime import pool

compiled = pytest.mark.skipif(ops.REFERENCE_ONLY, reason="everything runs the twins")


def double(x_P, y_P):
    """Compute ``y = 2 x``.

    Parameters
    ----------
    x_P : ndarray of shape (P,), IN
    y_P : ndarray of shape (P,), OUT
    """
    y_P[...] = 2 * x_P


@pytest.fixture(autouse=True)
def _forget_operations():
    before = dict(door.OPERATIONS)
    yield
    door.OPERATIONS.clear()
    door.OPERATIONS.update(before)


@pytest.fixture
def register_with(monkeypatch):
    """``register_with(kernel, **options)``: the operation ``double`` with a kernel in Python."""

    def register(kernel, **options):
        monkeypatch.setattr(door, "plugin_kernel", lambda twin, name: kernel)
        return ops.register(double, "some_plugin:double", **options)

    return register


def arrays(dtype=np.float32):
    return np.arange(3, dtype=dtype), np.zeros(3, dtype)


@compiled
def test_a_kernel_gets_the_threads_and_is_not_run_for_float64(register_with):
    seen = []

    def kernel(x_P, y_P, n_threads):
        seen.append(n_threads)
        y_P[...] = 3 * x_P  # so that it is known who ran

    op = register_with(kernel)
    x, y = arrays()
    op(x, y)
    assert (seen, y.tolist()) == ([ops.thread_count().count], [0, 3, 6])
    x, y = arrays(np.float64)
    op(x, y)
    assert (len(seen), y.tolist()) == (1, [0, 2, 4])


@compiled
def test_a_kernel_may_check_and_have_scratch(register_with):
    """A code below zero asks for scratch, one above is an error, of the same kernel."""
    asked = pool.scratch_floats(0)[0] + 16
    codes = [-asked, 7]
    op = register_with(
        lambda x_P, y_P, n_threads: codes.pop(0),
        on_code=lambda code: DataError(f"the element at {code - 1}"),
    )
    with pytest.raises(DataError, match="the element at 6"):
        op(*arrays())
    assert not codes
    assert pool.scratch_floats(0)[0] >= asked


@compiled
@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            5,
            "double: the kernel returned 5, and has no explanation for it. This is a mistake in it",
        ),
        (
            -8,
            "double: the kernel returned -8, and asks for scratch that it has been given. "
            "This is a mistake in it",
        ),
    ],
)
def test_a_code_that_nothing_explains_is_an_error(register_with, code, message):
    op = register_with(lambda x_P, y_P, n_threads: code)
    with pytest.raises(TissLMError) as caught:
        op(*arrays())
    assert str(caught.value) == message


@compiled
def test_a_forked_process_is_refused(register_with, monkeypatch):
    op = register_with(lambda x_P, y_P, n_threads: 0)
    monkeypatch.setattr(pool, "forked", True)
    with pytest.raises(TissLMError, match="double: this process was forked"):
        op(*arrays())


def test_watchers_and_the_search_know_a_plugins_operation(register_with):
    log = []

    class Noting(ops.Watcher):
        def before(self, op, args):
            log.append(op)

    op = register_with(lambda x_P, y_P, n_threads: double(x_P, y_P), part="norms")
    x, y = arrays()
    with ops.watching(Noting()):
        op(x, y)
    assert log == ["double"]
    assert [name for name, _ in operands_read("double", (x, y))] == ["x_P"]
    assert [name for name, _ in operands_written("double", (x, y))] == ["y_P"]
    assert door.OPERATIONS["double"].part == "norms"


def test_a_name_that_is_taken_and_an_unknown_part_are_refused(register_with):
    with pytest.raises(PluginError, match=r"part: expected one of products, .*, got 'speed'"):
        register_with(double, part="speed")

    def fill(x_P): ...

    with pytest.raises(PluginError) as caught:
        ops.register(fill, "some_plugin:fill")
    assert str(caught.value) == (
        f"operation 'fill' of {fill.__module__}: tisslm.ops.reference.optim registered one of that "
        "name already. Give it another name"
    )


@compiled
def test_a_kernel_that_is_not_built_is_refused_with_what_to_do():
    with pytest.raises(PluginError) as caught:
        ops.register(double, "a_plugin._double:double")
    assert str(caught.value) == (
        "a_plugin: its compiled kernels are not built (there is no extension module "
        "a_plugin._double). Run 'pip install --no-build-isolation --force-reinstall --no-deps "
        "a_plugin', or set TISSLM_OPS=reference to use the slow NumPy twins"
    )


@compiled
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.parametrize(
    ("source", "built"),
    [("int tisslm_kernel_interface = 99;", "version 99"), ("int other;", "no version")],
)
def test_a_kernel_of_another_interface_is_refused_before_it_runs(
    tmp_path, monkeypatch, source, built
):
    """The module has no initialization: importing it would be another error."""
    name = "of_another_version"
    file = tmp_path / f"{name}{EXTENSION_SUFFIXES[0]}"
    (tmp_path / "source.c").write_text(source)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", file, tmp_path / "source.c"], check=True)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError) as caught:
        ops.register(double, f"{name}:double")
    assert str(caught.value) == (
        f"{name}: module {name} was compiled for {built} of the kernel interface, and this TissLM "
        f"has version {plugin_kernels.interface_version()}. Build it again: 'pip install "
        f"--no-build-isolation --force-reinstall --no-deps {name}'"
    )
    assert name not in sys.modules


@compiled
def test_a_kernel_with_other_arguments_than_its_twin_is_refused():
    pytest.importorskip("tisslm_lion._update", reason="the plugin's kernel is not built")
    with pytest.raises(PluginError, match=r"expected the arguments of its twin and n_threads, \(x"):
        ops.register(double, "tisslm_lion._update:lion_update")

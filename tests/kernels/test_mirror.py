"""Kernels and twins are the same functions with the same arguments, less ``n_threads``."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

from tisslm.ops import reference

REFERENCE = Path(reference.__path__[0])

#: Modules of ``_kernels`` that are no operation on a model's arrays: the doors to BLAS and to
#: OpenMP, the choice of instruction set, arrays' types, the products' tiling, the machine's peak.
INFRASTRUCTURE = {"arrays", "blas", "cutting", "gemm", "isa", "peak", "threads"}

#: ``storage`` widens and rounds for the twins; kernels do that where they load and store.
TWINS = sorted({path.stem for path in REFERENCE.glob("[!_]*.py")} - {"storage"})
KERNELS = sorted(path.stem for path in (REFERENCE.parents[1] / "_kernels").glob("[!_]*.pyx"))


def public_functions(module):
    names = getattr(module, "__all__", None)
    if names is None:
        names = [
            name
            for name, value in vars(module).items()
            if not name.startswith("_")
            and callable(value)
            and not inspect.isclass(value)
            and getattr(value, "__module__", module.__name__) == module.__name__
        ]
    return {name: getattr(module, name) for name in names}


def test_every_kernel_has_a_twin():
    if not KERNELS:
        pytest.skip("an installed package has no sources")
    assert set(KERNELS) - INFRASTRUCTURE == set(TWINS)


@pytest.mark.parametrize("name", TWINS)
def test_kernel_and_twin_have_the_same_functions_and_arguments(kernel_module, name):
    twin = public_functions(importlib.import_module(f"tisslm.ops.reference.{name}"))
    kernel = public_functions(kernel_module(name))
    assert set(kernel) == set(twin)
    for function in twin:
        expected = [*inspect.signature(twin[function]).parameters, "n_threads"]
        assert list(inspect.signature(kernel[function]).parameters) == expected, function


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_asks_for_every_argument(name):
    """A default in the twin would hide an argument that the kernel needs."""
    for function in public_functions(
        importlib.import_module(f"tisslm.ops.reference.{name}")
    ).values():
        for parameter in inspect.signature(function).parameters.values():
            assert parameter.default is inspect.Parameter.empty
            assert parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD

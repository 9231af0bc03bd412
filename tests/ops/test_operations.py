"""The built-in operations are the public functions of the twins, and nothing has to name them."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

from tisslm import ops
from tisslm.ops import reference
from tisslm.ops.cost import OTHER, operations, part_of

#: ``storage`` widens and rounds for the twins, and has no kernel.
MODULES = {path.stem for path in Path(reference.__path__[0]).glob("[!_]*.py")} - {"storage"}
TWINS = {
    name: getattr(module, name)
    for module in (importlib.import_module(f"tisslm.ops.reference.{m}") for m in sorted(MODULES))
    for name in module.__all__
}


def test_every_twin_has_an_operation_of_some_part():
    built_in = {name for name, op in operations().items() if op.__module__.startswith("tisslm.")}
    assert built_in >= set(TWINS)
    assert set(TWINS) <= set(dir(ops))
    assert OTHER not in {part_of(name) for name in TWINS}


@pytest.mark.parametrize("name", TWINS)
def test_an_operation_has_the_arguments_and_the_words_of_its_twin(name):
    found, twin = getattr(ops, name), TWINS[name]
    assert list(inspect.signature(found).parameters) == list(inspect.signature(twin).parameters)
    if name != "matmul":  # which checks its arguments, and says so
        assert found.__doc__ == twin.__doc__


def test_a_name_that_is_none_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'layer_norm'"):
        ops.layer_norm  # noqa: B018

"""Entry refuses what users could not name; every kind has a hook, and importing them is light."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from tisslm import contracts
from tisslm.errors import PluginError
from tisslm.registry import builtins, hookspecs
from tisslm.registry.hookspecs import KINDS, Entry


@pytest.mark.parametrize("name", ["lion", "z_loss", "b2", "warmup_linear_2"])
@pytest.mark.parametrize("target", ["a:B", "a_b.c:D.e", object])
def test_names_and_targets_that_are_fine(name: str, target: object) -> None:
    entry = Entry(name, target, "one line")
    assert (entry.name, entry.target, entry.description) == (name, target, "one line")


@pytest.mark.parametrize("name", ["Lion", "z-loss", "", "2b", "_a", "a_", "a__b", "é", "a b", 3])
def test_names_that_are_not_snake_case_are_refused(name: Any) -> None:
    with pytest.raises(PluginError) as caught:
        Entry(name, "a:B", "one line")
    assert str(caught.value) == (
        f"Entry: expected a snake_case name such as 'my_part', got {name!r}; "
        "use lower-case letters, digits and single underscores"
    )


@pytest.mark.parametrize("target", ["", "a.B", "a:", ":B", "a:B:c", "a b:C", "a-b:C", "a..b:C"])
def test_texts_that_are_no_dotted_path_are_refused(target: str) -> None:
    with pytest.raises(PluginError) as caught:
        Entry("lion", target, "one line")
    assert str(caught.value) == (
        f"Entry 'lion': expected a class or a dotted path 'module:attribute', got {target!r}"
    )


@pytest.mark.parametrize("description", ["", "  ", "two\nlines", None])
def test_descriptions_that_are_not_one_line_are_refused(description: Any) -> None:
    with pytest.raises(PluginError) as caught:
        Entry("lion", "a:B", description)
    assert str(caught.value) == (
        f"Entry 'lion': expected a description of one line, got {description!r}"
    )


def test_every_kind_has_a_hook_a_contract_and_built_in_parts() -> None:
    assert len(KINDS) == 9
    for name, kind in KINDS.items():
        assert kind.name == name
        assert list(getattr(hookspecs, kind.hook)()) == []
        assert all(isinstance(getattr(contracts, each), type) for each in kind.contracts)
        entries = list(getattr(builtins, kind.hook)())
        assert entries, f"no built-in {name}"
        assert all(isinstance(entry.target, str) for entry in entries)


def test_the_hook_modules_load_no_numpy() -> None:
    modules = "tisslm.registry.discovery, tisslm.registry.builtins"
    code = f"import sys, {modules}; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"

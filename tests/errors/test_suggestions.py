"""The name that a message suggests, and where such names are looked for."""

from __future__ import annotations

import re
from pathlib import Path

import tisslm
from tisslm.errors.suggestions import did_you_mean, nearest


def test_the_nearest_name_is_suggested() -> None:
    assert nearest("adamv", ["sgd", "adamw"]) == "adamw"
    assert did_you_mean("adamv", iter(["sgd", "adamw"])) == " Did you mean 'adamw'?"


def test_nothing_is_suggested_where_nothing_is_alike() -> None:
    assert nearest("zzz", ["sgd", "adamw"]) == ""
    assert did_you_mean("zzz", ["sgd", "adamw"]) == ""
    assert did_you_mean("adamw", []) == ""


def test_how_alike_a_name_must_be_can_be_said() -> None:
    assert nearest("weight", ["weigh_less"], likeness=0.6) == "weigh_less"
    assert nearest("weight", ["weigh_less"], likeness=0.7) == ""


def test_likeness_is_measured_in_one_place() -> None:
    package = Path(tisslm.__file__).parent
    measures = re.compile(r"^\s*(import difflib|from difflib)", re.MULTILINE)
    found = [p for p in package.rglob("*.py") if measures.search(p.read_text("utf-8"))]
    assert [str(path.relative_to(package)) for path in found] == ["errors/suggestions.py"]

"""What is installed with the package is what the package imports."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from tisslm.cli.doctor.machine import LIBRARIES

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
NAMES = {re.split(r"[^\w-]", line)[0] for line in PROJECT["project"]["dependencies"]}


def test_every_dependency_is_imported() -> None:
    sources = "\n".join(path.read_text("utf-8") for path in ROOT.glob("tisslm/**/*.py"))
    idle = {n for n in NAMES if not re.search(rf"^\s*(import|from) {n}\b", sources, re.M)}
    assert idle == set()


def test_doctor_misses_nothing_that_is_not_installed_with_the_package() -> None:
    assert set(LIBRARIES) <= NAMES


def test_no_rule_of_the_linter_is_both_chosen_and_ignored() -> None:
    lint = PROJECT["tool"]["ruff"]["lint"]
    assert set(lint["select"]) & set(lint["ignore"]) == set()

"""Floors, folders and circles, and nobody below the commands who takes the whole Trainer."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import import_module

import pytest
from architecture import figures
from architecture.figures import ENTRIES, FLOORS, PACKAGE, ROOT, circles, edges, takers, taking

from tisslm.config import TrainingConfig

TRAINING = "tisslm.training"


def test_no_files_import_each_other_in_a_circle():
    assert circles(edges()) == []


def test_a_circle_would_be_seen(tmp_path):
    package = tmp_path / "house"
    package.mkdir()
    lazy = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.b import B\n"
    for name, text in (("__init__", ""), ("a", lazy), ("b", "from house import a\n"), ("c", lazy)):
        (package / f"{name}.py").write_text(text)
    assert circles(edges(package)) == [["house.a", "house.b"]]


def test_import_linter_counts_imports_for_types():
    assert "exclude_type_checking_imports" not in (ROOT / "pyproject.toml").read_text()


def test_no_folder_has_more_entries_than_can_be_held_in_the_head():
    counts = figures.entries()
    assert counts["tisslm"] == len([*PACKAGE.glob("*.py"), *PACKAGE.glob("*/__init__.py")])
    assert {name: n for name, n in counts.items() if n > ENTRIES} == {}


def test_a_folder_that_is_too_full_would_be_seen(tmp_path):
    package = tmp_path / "house"
    (package / "room").mkdir(parents=True)
    (package / "__init__.py").touch()
    for i in range(ENTRIES):
        (package / "room" / f"m{i}.py").touch()
    (package / "room" / "__init__.py").touch()
    assert figures.entries(package) == {"house": 2, "house/room": ENTRIES + 1}


def test_every_package_has_one_of_ten_floors():
    names = [name for floor in figures.floors() for name in floor]
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert len(figures.floors()) == FLOORS
    assert sorted(names) == sorted(packages)


def test_imports_lead_down_only():
    assert figures.sideways_or_up(figures.floors(), figures.crossings()) == []


def test_an_import_up_or_sideways_would_be_seen():
    pairs = {("a", "b"), ("b", "c"), ("c", "a")}
    assert figures.sideways_or_up([["a"], ["b", "c"]], pairs) == [("a", "b"), ("b", "c")]


@pytest.mark.parametrize(
    ("package", "kinds"),
    [("optim", ("losses", "optimizers", "schedulers")), ("tracking", ("monitors", "sinks"))],
)
def test_parts_of_one_kind_do_not_import_those_of_another(package, kinds):
    for kind in kinds:
        others = tuple(f"tisslm.{package}.{other}" for other in kinds if other != kind)
        for name, names in edges().items():
            if name.startswith(f"tisslm.{package}.{kind}"):
                assert [n for n in names if n.startswith(others)] == [], name


@pytest.mark.parametrize(
    ("kind", "above"),
    [
        ("Trainer", figures.ABOVE),
        # the range test is a loop of its own
        (
            "Session",
            ("tisslm.training.loop", "tisslm.training.trainer", "tisslm.workflows.lr_range"),
        ),
    ],
)
def test_only_what_stands_above_takes_a_whole_run(kind, above):
    """Its parts are handed on, not all of it."""
    assert takers(kind, above) == []
    assert takers(kind, ()) != []  # the search finds those that may


def called(tree: ast.Module) -> set[str]:
    """Return the dotted ends of what a file calls: ``optimizer.step`` of ``a.optimizer.step()``."""
    ends = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            inner = getattr(owner, "attr", getattr(owner, "id", ""))
            ends |= {f"{inner}.{node.func.attr}", f".{node.func.attr}"}
    return ends


@pytest.mark.parametrize(
    ("call", "homes"),
    [
        (".stream", {"training.session"}),
        ("optimizer.step", {"training.step", "workflows.speed"}),  # the speed of an update alone
        (
            ".step_loss",
            {
                "training.gradients.tokens",
                "training.gradients.reference",  # and evaluations of pairs, by it
                "training.evaluation.tokens",
                "contracts.model",  # step_weighed, where a model has none of its own
                "workflows.speed",
                "workflows.harness.scoring",
            },
        ),
        (".step_weighed", {"training.gradients.pairs"}),
        # the planner's is a check of the contract
        (
            ".prepare",
            {
                "training.composition",
                "training.memory_plan.planner",
                "workflows.speed",
                "workflows.embedding.loading",  # passes without a backward
                "workflows.build.teacher",  # likewise
            },
        ),
    ],
)
def test_there_is_one_way_to_make_a_step(call, homes):
    """Training, dry run, range test and replay have the session open the data and make steps."""
    library = ("tisslm.datasets.", "tisslm.testing.", "tisslm.contracts.data")
    callers = {
        name.removeprefix("tisslm.")
        for name, tree in figures.modules().items()
        if call in called(tree) and not name.startswith(library)
    }
    assert callers == homes


def borders(tree: ast.Module) -> list[str]:
    """Return the modules to which a docstring sends its reader: in parentheses, or after "in"."""
    text = " ".join((ast.get_docstring(tree) or "").split())
    groups = re.findall(r"(?:\(|\bin )((?:``[^`]+``(?:,? and |, )?)+)", text)
    name = r"``([a-z_0-9]+(?:\.[a-z_0-9]+)*)``"
    return [found for group in groups for found in re.findall(name, group)]


def test_what_lives_elsewhere_is_there():
    ends = [f".{name}" for name in figures.modules()]
    files = {path.name for path in PACKAGE.rglob("*.*")} | {p.stem for p in PACKAGE.rglob("*.pyx")}

    def known(other: str) -> bool:
        home, _, attribute = other.rpartition(".")
        is_module = other in files or any(end.endswith(f".{other}") for end in ends)
        homes = [end for end in ends if home and end.endswith(f".{home}")]
        is_name = any(hasattr(import_module(end[1:]), attribute) for end in homes)
        is_key = other.removeprefix("training.") in TrainingConfig.model_fields
        return is_module or is_name or is_key

    named = {name: borders(tree) for name, tree in figures.modules().items()}
    assert sum(map(len, named.values())) > 60
    stale = [(name, other) for name, there in named.items() for other in there if not known(other)]
    assert stale == []


def test_a_border_is_read_in_any_words():
    text = "A thing.\n\nIt is read in ``a.b`` and\n``c``, written elsewhere (``d``); not ``e``."
    assert borders(ast.Module([ast.Expr(ast.Constant(text))], [])) == ["a.b", "c", "d"]


def test_a_function_that_takes_the_trainer_would_be_seen():
    tree = ast.parse("def f(a: int, t: Trainer | None) -> None: ...\ndef g(t): ...\n")
    assert taking(tree, "Trainer") == ["f"]


def test_the_script_prints_every_figure_beside_its_target():
    done = subprocess.run(
        [sys.executable, figures.__file__], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()[1:]
    assert [line.what for line in figures.figures()] == [line[:42].strip() for line in lines]
    for line in figures.figures():
        what, today = line.what, line.today
        assert any(row.startswith(what) and row.endswith(today) for row in lines), what

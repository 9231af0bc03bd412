"""No circle of files, and nobody below the commands who takes the whole Trainer."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "tisslm"

#: What stands above the Trainer and may take it whole.
ABOVE = {"cli", "workflows", "training.trainer"}


@cache
def modules(package: Path) -> dict[str, ast.Module]:
    """Return the syntax tree of each module of a package, by its dotted name."""
    found = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text("utf-8"))
    return found


def imported(tree: ast.Module) -> set[str]:
    """Return every name that a file imports, wherever in it: for types alone, too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def edges(package: Path) -> dict[str, set[str]]:
    """Return which modules each module imports; a name in a package is not the whole package."""
    trees = modules(package)
    found = {}
    for name, tree in trees.items():
        names = {n for n in imported(tree) if n in trees}
        inner = {n.rpartition(".")[0] for n in names}
        found[name] = {n for n in names if n not in inner or not _only_for_parts(tree, n, trees)}
        found[name].discard(name)
    return found


def _only_for_parts(tree: ast.Module, package: str, trees: dict[str, ast.Module]) -> bool:
    """Tell whether a package is imported from only for modules that it holds."""
    froms = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module == package]
    whole = any(
        alias.name == package
        for n in ast.walk(tree)
        if isinstance(n, ast.Import)
        for alias in n.names
    )
    return not whole and all(f"{package}.{a.name}" in trees for n in froms for a in n.names)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the sets of modules that reach each other."""

    def reach(start: str) -> set[str]:
        seen, left = set(), [start]
        while left:
            for name in graph[left.pop()] - seen:
                seen.add(name)
                left.append(name)
        return seen

    reached = {name: reach(name) for name in graph}
    found = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in graph
        if name in reached[name]
    }
    return [list(circle) for circle in sorted(found)]


def taking(tree: ast.Module, kind: str) -> list[str]:
    """Return the functions with a parameter of a type, by its annotation."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        notes = [a.annotation for a in given if a.annotation is not None]
        if any(kind in {n.id for n in ast.walk(note) if isinstance(n, ast.Name)} for note in notes):
            found.append(node.name)
    return found


def test_no_files_import_each_other_in_a_circle():
    assert circles(edges(PACKAGE)) == []


def test_a_circle_would_be_seen(tmp_path):
    package = tmp_path / "house"
    package.mkdir()
    lazy = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.b import B\n"
    for name, text in (("__init__", ""), ("a", lazy), ("b", "from house import a\n"), ("c", lazy)):
        (package / f"{name}.py").write_text(text)
    assert circles(edges(package)) == [["house.a", "house.b"]]


def test_import_linter_counts_imports_for_types():
    assert "exclude_type_checking_imports" not in (PACKAGE.parent / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("kind", "home"), [("Trainer", ABOVE), ("Session", {"training.loop", "training.trainer"})]
)
def test_only_what_stands_above_takes_a_whole_run(kind, home):
    """Its parts are handed on, not all of it; the range test is a loop of its own."""
    allowed = home | ({"workflows"} if kind == "Session" else set())
    takers = {
        f"{name}.{function}"
        for name, tree in modules(PACKAGE).items()
        if name.split(".")[1:2]
        and name.removeprefix("tisslm.") not in allowed
        and name.split(".")[1] not in allowed
        for function in taking(tree, kind)
    }
    assert takers == set()


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
        (".step_loss", {"training.step", "training.evaluation", "workflows.speed"}),
        # the planner's is the contract's own, a check
        (".prepare", {"training.trainer", "training.memory_plan.planner", "workflows.speed"}),
    ],
)
def test_there_is_one_way_to_make_a_step(call, homes):
    """Training, dry run, range test and replay have the session open the data and make steps."""
    library = {"datasets", "testing"}
    callers = {
        name.removeprefix("tisslm.")
        for name, tree in modules(PACKAGE).items()
        if call in called(tree) and name.split(".")[1] not in library
    }
    assert callers == homes


def test_a_function_that_takes_the_trainer_would_be_seen():
    tree = ast.parse("def f(a: int, t: Trainer | None) -> None: ...\ndef g(t): ...\n")
    assert taking(tree, "Trainer") == ["f"]

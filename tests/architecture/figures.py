"""Figures of the house: before it was rebuilt, as it is to be, and today.

    python tests/architecture/figures.py

The tests of this folder hold the same figures.
"""

from __future__ import annotations

import ast
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tisslm"

#: Most entries that a folder may have: modules and packages, ``__init__`` among them.
ENTRIES = 20
FLOORS = 10

#: What stands above the Trainer and may take it whole.
ABOVE = ("tisslm.cli", "tisslm.workflows", "tisslm.training.trainer")


@cache
def modules(package: Path = PACKAGE) -> dict[str, ast.Module]:
    """Return the syntax tree of each module of a package, by its dotted name."""
    trees = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        trees[name] = ast.parse(path.read_text("utf-8"))
    return trees


def imported(tree: ast.Module) -> set[str]:
    """Return every name that a file imports, wherever in it: for types alone, too."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@cache
def edges(package: Path = PACKAGE) -> dict[str, set[str]]:
    """Return which modules each module imports; a name in a package is not the whole package."""
    trees = modules(package)
    graph = {}
    for name, tree in trees.items():
        names = {n for n in imported(tree) if n in trees}
        inner = {n.rpartition(".")[0] for n in names}
        graph[name] = {n for n in names if n not in inner or not _only_for_parts(tree, n, trees)}
        graph[name].discard(name)
    return graph


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


def reach(graph: dict[str, set[str]], start: str) -> set[str]:
    """Return every module that a module imports, directly or through others."""
    seen: set[str] = set()
    left = [start]
    while left:
        for name in graph[left.pop()] - seen:
            seen.add(name)
            left.append(name)
    return seen


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the sets of modules that reach each other."""
    reached = {name: reach(graph, name) for name in graph}
    groups = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in graph
        if name in reached[name]
    }
    return [list(circle) for circle in sorted(groups)]


def entries(package: Path = PACKAGE) -> dict[str, int]:
    """Return how many modules and packages each folder of a package holds, ``__init__`` counted."""
    counts: dict[str, int] = {}
    for path in package.rglob("*.py"):
        name = path.parent.relative_to(package.parent).as_posix()
        counts[name] = counts.get(name, 0) + 1
        if path.name == "__init__.py" and path.parent != package:
            above = path.parent.parent.relative_to(package.parent).as_posix()
            counts[above] = counts.get(above, 0) + 1
    return counts


def floors() -> list[list[str]]:
    """Return the packages of each floor, the lowest first, as import-linter keeps them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (layers,) = (c["layers"] for c in settings["tool"]["importlinter"]["contracts"])
    return [
        [name.strip().removeprefix("tisslm.") for name in line.split("|")]
        for line in reversed(layers)
    ]


def crossings() -> set[tuple[str, str]]:
    """Return the pairs of packages of which the first imports the second."""
    pairs = {(_entry(name), _entry(n)) for name, names in edges().items() for n in names}
    return {(a, b) for a, b in pairs if a and b and a != b}


def _entry(module: str) -> str:
    return [*module.split("."), ""][1]


def sideways_or_up(levels: list[list[str]], pairs: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the pairs of which the first does not stand above the second."""
    level = {name: i for i, names in enumerate(levels) for name in names}
    outer = {"__main__"}  # stands above every floor, as what starts the command line
    return sorted((a, b) for a, b in pairs if a not in outer and level[a] <= level[b])


def taking(tree: ast.Module, kind: str) -> list[str]:
    """Return the functions with a parameter of a type, by its annotation."""
    takers = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        notes = [a.annotation for a in given if a.annotation is not None]
        if any(kind in {n.id for n in ast.walk(note) if isinstance(n, ast.Name)} for note in notes):
            takers.append(node.name)
    return takers


def takers(kind: str, above: tuple[str, ...] = ABOVE) -> list[str]:
    """Return the functions that take an object whole, but for those in some modules."""
    return sorted(
        f"{name}.{function}"
        for name, tree in modules().items()
        if not any(f"{name}.".startswith(f"{home}.") for home in above)
        for function in taking(tree, kind)
    )


@dataclass(frozen=True)
class Figure:
    """One line of the table: before the house was rebuilt, as it is to be, and today."""

    what: str
    before: str
    target: str
    today: str


def figures() -> list[Figure]:
    """Measure the package."""
    counts, levels = entries(), floors()
    fullest = max(counts, key=lambda name: (name != "tisslm", counts[name]))
    rings, wrong = circles(edges()), sideways_or_up(levels, crossings())
    return [
        Figure("entries in tisslm/", "96", "20", str(counts["tisslm"])),
        Figure("most entries in a folder of it", "", "20", f"{counts[fullest]} ({fullest})"),
        Figure("floors", "33", "10", str(len(levels))),
        Figure("names on them", "94", "18", str(sum(map(len, levels)))),
        Figure("arrows between entries", "425", "85", str(len(crossings()))),
        Figure("arrows upwards or sideways", "3", "0", str(len(wrong))),
        Figure("circles of files", "2", "0", str(len(rings))),
        Figure("files in circles", "13", "0", str(sum(map(len, rings)))),
        Figure("Python files", "319", "296", str(len(modules()))),
        Figure("functions below it that take the Trainer", "44", "0", str(len(takers("Trainer")))),
    ]


if __name__ == "__main__":
    print(f"{'':42}{'before':>8}{'target':>8}  today")
    for line in figures():
        print(f"{line.what:42}{line.before:>8}{line.target:>8}  {line.today}")

"""What a contract's object has is said by the contract, and never found out by asking it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "tisslm"

#: Contracts whose objects a run is made of, and what variables that hold one are called.
CONTRACTS = {
    "Network", "Model", "Encoder", "ModelFamily", "ModelConfig", "Decoder", "Layer", "Norm",
    "Dataset", "Tokenizer", "Loss", "EmbeddingLoss", "PreferenceLoss", "Optimizer", "Scheduler",
    "Sink", "Monitor", "Communicator", "Stateful", "Components",
}  # fmt: skip
NAMES = {
    "model", "family", "decoder", "layer", "norm", "dataset", "tokenizer", "loss", "optimizer",
    "scheduler", "sink", "monitor", "communicator", "parts",
}  # fmt: skip


def asked(tree: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls of getattr and hasattr with what holds a contract's object."""
    holders = NAMES | set(_annotated(tree)) | set(_taken_from_many(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            name = _name(node.args[0])
            if node.func.id in {"getattr", "hasattr"} and _holds(name, holders):
                yield node


def _holds(name: str, holders: set[str]) -> bool:
    return name in holders or name.rpartition("_")[2] in NAMES


def _name(node: ast.AST) -> str:
    """Return the last name of an expression; of type(x), x's."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "type":
        return _name(node.args[0])
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def _annotated(tree: ast.AST) -> Iterator[str]:
    """Yield arguments and variables whose type is a contract, or one of several types."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            words = {n.id for n in ast.walk(node.annotation) if isinstance(n, ast.Name)}
            whole = not any(isinstance(n, ast.Subscript) for n in ast.walk(node.annotation))
            if words & CONTRACTS and whole:
                yield node.arg if isinstance(node, ast.arg) else _name(node.target)


def _taken_from_many(tree: ast.AST) -> Iterator[str]:
    """Yield what walks over models, datasets, monitors, ..."""
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.comprehension):
            many = _name(node.iter)
            if many.endswith("s") and _holds(many.removesuffix("s"), NAMES):
                yield _name(node.target)


@pytest.mark.parametrize(
    "line",
    [
        'getattr(model, "seed", None)', 'hasattr(self.val_dataset, "seq_len")',
        'getattr(self._parts.scheduler, "max_steps", None)', 'getattr(type(model), "prepare")',
        "[getattr(d, 'nbytes', 0) for d in self.datasets]", "getattr(parts, name)",
        "def f(given: Model | None): return hasattr(given, 'config')",
        "for m in monitors:\n    getattr(m, 'wants')",
    ],
)  # fmt: skip
def test_asking_a_contracts_object_would_be_seen(line: str) -> None:
    assert len(list(asked(ast.parse(line)))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "getattr(stream, 'encoding', None)", "model.seed", "getattr(config, section)",
        "def f(made: type[Model]): return getattr(made, 'from_text')",
        "for x in files:\n    hasattr(x, 'read')",
    ],
)  # fmt: skip
def test_asking_something_else_is_no_matter_of_contracts(line: str) -> None:
    assert not list(asked(ast.parse(line)))


def test_nothing_is_asked_what_its_contract_says() -> None:
    plugins = PACKAGE.parent.glob("plugins/*/src/**/*.py")
    sources = [*PACKAGE.rglob("*.py"), *plugins]
    assert len(sources) > 300
    for path in sources:
        found = [node.lineno for node in asked(ast.parse(path.read_text("utf-8")))]
        assert not found, f"{path}:{found}: declare it in tisslm.contracts, with a default"

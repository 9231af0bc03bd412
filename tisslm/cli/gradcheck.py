"""``tisslm gradcheck``: check gradients and updates numerically, and show each worst element.

The comparisons are in ``tisslm.testing.gradcheck``.
"""

from __future__ import annotations

import math
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from tisslm.cli._terminal import NUMBER, TEXT, WORD, say, show_table
from tisslm.config import RunConfig
from tisslm.config.model import family_of
from tisslm.contracts import ModelConfig, ModelFamily
from tisslm.errors import ConfigError
from tisslm.registry import Registry, load_registry
from tisslm.testing.gradcheck import GradientRow, check_gradients

__all__ = ["LARGEST", "gradcheck"]

#: Parameters of the largest model that is checked; NumPy twins and differences are slow.
LARGEST = 1_000_000

#: V, if the configuration leaves it to the tokenizer.
VOCABULARY = 65


def gradcheck(
    component: Annotated[
        str | None,
        typer.Option(
            "--component",
            help="Check one name or kind only: kernel, layer, head, loss, model, optimizer, "
            "layer_norm, attention, adamw, ...",
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            metavar="CONFIG.toml",
            help="Check the model of a run configuration, of at most a million parameters, "
            "and nothing else.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list of objects.")] = False,
) -> None:
    """Compare gradients with central differences in float64, and float32 with float64.

    Kernels, layers, whole models, and every installed loss and optimizer, plugins included.
    The exit code is 0 if all rows pass, and 1 otherwise.
    """
    registry = load_registry()
    family, shape = (None, None) if model is None else _model_of(model, registry)
    rows = check_gradients(component, registry, model=shape, family=family)
    if json:
        say(dumps([_plain(row) for row in rows], indent=2))
    else:
        _print(rows)
    if not all(row.passed for row in rows):
        raise typer.Exit(1)


def _model_of(path: Path, registry: Registry) -> tuple[ModelFamily, ModelConfig]:
    """Read the ``[model]`` section of a run configuration; refuse a large model."""
    values = dict(RunConfig.load(path).model)
    family: ModelFamily = registry.build("model", family_of(values))
    values.pop("family", None)
    if "vocab_size" not in {**family.presets.get(values.get("preset", ""), {}), **values}:
        values["vocab_size"] = VOCABULARY
    shape = family.configure(**values)
    count = sum(math.prod(spec.shape) for spec in family.parameters(shape))
    if count > LARGEST:
        raise ConfigError(
            f"gradcheck: {path}: expected a model of at most {LARGEST:,} parameters, "
            f"got {count:,}; lower model.n_layer or model.n_embd for the check, which leaves "
            "the formulas as they are"
        )
    return family, shape


def _print(rows: list[GradientRow]) -> None:
    """Print a table and the verdict."""
    columns = {
        "": WORD,
        "kind": WORD,
        "name": WORD,
        "compared": TEXT,
        "error": NUMBER,
        "below": NUMBER,
        "worst element": TEXT,
    }
    show_table(columns, map(_cells, rows))
    failed = [row for row in rows if not row.passed]
    n_checked = sum(row.n_checked for row in rows)
    verdict = f"{len(failed)} of {len(rows)} rows failed" if failed else f"{len(rows)} rows passed"
    say(f"\n{verdict}, {n_checked:,} numbers compared")


def _cells(row: GradientRow) -> list[str]:
    return [
        "ok" if row.passed else "FAIL",
        row.kind,
        row.name,
        row.what,
        f"{row.error:.1e}",
        f"{row.tolerance:.0e}" if row.tolerance < 0.1 else f"{row.tolerance:g}",
        row.worst,
    ]


def _plain(row: GradientRow) -> dict[str, Any]:
    """Return a row as plain values; errors that are not finite become strings, as in the sinks."""
    return {
        "kind": row.kind,
        "name": row.name,
        "what": row.what,
        "error": row.error if math.isfinite(row.error) else "Infinity",
        "tolerance": row.tolerance,
        "worst": row.worst,
        "n_checked": row.n_checked,
        "passed": row.passed,
    }

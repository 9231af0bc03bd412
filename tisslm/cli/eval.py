"""``tisslm eval``: loss and accuracy of a trained model, on its validation data or on others.

The model is evaluated by ``tisslm.training.evaluation``.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from tisslm.cli._terminal import say
from tisslm.config import DataSection
from tisslm.contracts import Dataset, Model, Tokenizer
from tisslm.errors import CheckpointError
from tisslm.registry import Registry, load_registry
from tisslm.system.quantities import duration_text
from tisslm.system.strict_json import plain_number
from tisslm.training.evaluation import Evaluation
from tisslm.training.evaluation import evaluate as evaluate_model
from tisslm.workflows.build.data import load_file, load_validation
from tisslm.workflows.build.formats import installed_formats
from tisslm.workflows.build.sources import run_sources
from tisslm.workflows.load_model import load_run_config
from tisslm.workflows.open_model import OpenModel, open_model

__all__ = ["evaluate"]


@dataclass(frozen=True)
class _Windows:
    """The data to evaluate on, what messages call them, and the windows per pass."""

    dataset: Dataset
    name: str
    batch_size: int = 32


def evaluate(
    path: Annotated[Path, typer.Argument(metavar="MODEL", show_default=False)],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Text, JSON lines or tokens; left out, what the run validates on."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Compute a trained model's loss, accuracy and bits per byte over every window of the data."""
    registry = load_registry()
    opened = open_model(path, registry)
    model, tokenizer, where = opened.build(opened.shape({})), opened.tokenizer, opened.where
    if data is None:
        source = _of_run(opened, model, registry)
    else:
        source = _of_path(data, opened, model, registry)
    loss = registry.build("loss", "cross_entropy")
    found = evaluate_model(
        model, source.dataset, loss, batch_size=source.batch_size, tokenizer=tokenizer
    )
    facts = {
        "checkpoint": where,
        "data": source.name,
        "loss": found.loss,
        "perplexity": found.perplexity,
        "accuracy": found.accuracy,
        "top5_accuracy": found.top5_accuracy,
        "bpb": found.bpb,
        "targets": found.targets,
        "bytes": found.nbytes,
        "seconds": found.seconds,
    }
    if json:
        say(dumps({name: _plain(value) for name, value in facts.items()}, indent=2))
        return
    say(f"{where}\n{source.name}: {_sentence(found)}")


def _sentence(found: Evaluation) -> str:
    """Return an evaluation as a line for people; values that are unknown are left out."""
    parts = [f"loss {found.loss:.4f} nats per token", f"perplexity {found.perplexity:.2f}"]
    if found.accuracy is not None and found.top5_accuracy is not None:
        parts.append(f"accuracy {found.accuracy:.1%} (top five {found.top5_accuracy:.1%})")
    if found.bpb is not None:
        parts.append(f"{found.bpb:.4f} bits per byte")
    return " | ".join([*parts, f"{found.targets} targets", f"{duration_text(found.seconds)}"])


def _of_run(opened: OpenModel, model: Model, registry: Registry) -> _Windows:
    """Return the validation data of the run that a checkpoint belongs to."""
    where, tokenizer = opened.where, opened.tokenizer
    if opened.place is None:
        raise CheckpointError(f"{where}: no run has made it; give a text with --data")
    try:
        config = load_run_config(opened.place)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; or give a text with --data") from error
    _check_readable(where, config.data, tokenizer, registry)
    dataset = load_validation(config, tokenizer, model.seq_len, registry)
    if dataset is None:
        raise CheckpointError(f"{where}: its run had no validation text; give a text with --data")
    path = config.data.path or "data.sources"
    name = config.data.valid_path or f"{path}, validation part"
    return _Windows(dataset, name, config.training.batch_size)


def _of_path(path: Path, opened: OpenModel, model: Model, registry: Registry) -> _Windows:
    """Return a whole file or folder, read with the settings of the run if they are still there."""
    tokenizer, section = opened.tokenizer, DataSection()
    _check_readable(opened.where, DataSection(path=str(path)), tokenizer, registry)
    if opened.place is not None:
        with contextlib.suppress(CheckpointError):
            section = load_run_config(opened.place).data
    if tokenizer is None:
        section = section.model_copy(update={"vocab_size": model.vocab_size})
    return _Windows(load_file(path, tokenizer, model.seq_len, section, registry), str(path))


def _check_readable(
    where: str, data: DataSection, tokenizer: Tokenizer | None, registry: Registry
) -> None:
    """Raise an error for text if there is no tokenizer to read it."""
    if tokenizer is not None or data.name != "text":
        return
    sources = run_sources(data, formats=installed_formats(registry))
    if any(source.reads_text for source in sources):
        raise CheckpointError(
            f"{where}: the checkpoint has no tokenizer, so it cannot read text; train with a "
            "dataset that has one, or use trainer.validate with a dataset of token ids"
        )


def _plain(value: object) -> object:
    """Return a value that JSON has: infinities and NaN become strings, as in metrics.jsonl."""
    return plain_number(value) if isinstance(value, float) else value

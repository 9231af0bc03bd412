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

from tisslm.cli._terminal import AVERAGED, GIVE_TOKENIZER, WHERE, say
from tisslm.config import DataSection
from tisslm.contracts import Dataset, Encoder, Model, Tokenizer
from tisslm.contracts.model import predicting_model
from tisslm.errors import CheckpointError, ConfigError, DataError
from tisslm.registry import Registry, load_registry
from tisslm.system.quantities import duration_text
from tisslm.system.strict_json import plain_number
from tisslm.training.evaluation import Evaluation, PairEvaluation, TextEvaluation
from tisslm.training.evaluation import evaluate as evaluate_model
from tisslm.workflows.build.data import load_file, load_validation
from tisslm.workflows.build.examples import PREFERENCES
from tisslm.workflows.build.formats import installed_formats
from tisslm.workflows.build.sources import run_sources
from tisslm.workflows.embedding import evaluate_encoder
from tisslm.workflows.harness import TaskResult, evaluate_tasks
from tisslm.workflows.load_model import load_run_config
from tisslm.workflows.open_model import OpenModel, open_model
from tisslm.workflows.preferences import evaluate_preferences

__all__ = ["evaluate"]

#: Most rows and tokens of a pass, but for one row: long contexts take much memory.
ROWS, TOKENS = 32, 8192


@dataclass(frozen=True)
class _Windows:
    """The data to evaluate on, what messages call them, and the windows per pass."""

    dataset: Dataset
    name: str
    batch_size: int


def evaluate(
    path: Annotated[Path, typer.Argument(metavar="MODEL", help=WHERE, show_default=False)],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Text, JSON lines or tokens; left out, what the run validates on."
        ),
    ] = None,
    seq_len: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a row; left out, the model's context.")
    ] = None,
    tasks: Annotated[
        str,
        typer.Option(
            metavar="NAME,...", help="Tasks of lm-evaluation-harness instead.", show_default=False
        ),
    ] = "",
    include_path: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where YAML files of own tasks are.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only so many samples of each task.")
    ] = None,
    few_shot: Annotated[
        int | None, typer.Option(min=0, help="Solved examples before each question of a task.")
    ] = None,
    ema: Annotated[bool, typer.Option("--ema", help=AVERAGED)] = False,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Compute a trained model's loss, accuracy and bits per byte over every window of the data.

    Of an encoder, it is how well the vectors of held-out texts find each other; of a run on
    preferences, how often the chosen answer of a held-out pair has the larger reward.
    """
    named = [name for name in tasks.split(",") if name]
    _check_options(named, data, include_path, limit, few_shot)
    registry = load_registry()
    opened = open_model(path, registry, ema=ema)
    shape = opened.shape({} if seq_len is None else {"seq_len": seq_len})
    tokenizer, where = opened.tokenizer, opened.where
    network = opened.build(shape)
    if isinstance(network, Encoder) and not named:
        _show_texts(where, *evaluate_encoder(opened, network, data, registry), as_json=json)
        return
    model = predicting_model(network, where)
    if named:
        if tokenizer is None:
            raise CheckpointError(f"{where}: the model has no tokenizer, which tasks need")
        loss = registry.build("loss", "cross_entropy")
        results = evaluate_tasks(
            model,
            tokenizer,
            loss,
            named,
            include_path=include_path,
            limit=limit,
            few_shot=few_shot,
        )
        _show_tasks(where, results, as_json=json)
        return
    preferred = evaluate_preferences(opened, model, registry) if data is None else None
    if preferred is not None:
        _show_pairs(where, *preferred, as_json=json)
        return
    if data is None:
        source = _of_run(opened, model, registry)
    else:
        source = _of_path(data, opened, model, registry)
    loss = registry.build("loss", "cross_entropy")
    found = evaluate_model(
        model, source.dataset, loss, batch_size=source.batch_size, tokenizer=tokenizer
    )
    _show_loss(where, found, source.name, as_json=json)


def _show_loss(where: str, found: Evaluation, name: str, *, as_json: bool) -> None:
    """Print how well targets are predicted."""
    if not as_json:
        say(f"{where}\n{name}: {_sentence(found)}")
        return
    facts = {
        "checkpoint": where,
        "data": name,
        "loss": found.loss,
        "perplexity": found.perplexity,
        "accuracy": found.accuracy,
        "top5_accuracy": found.top5_accuracy,
        "bpb": found.bpb,
        "targets": found.targets,
        "bytes": found.nbytes,
        "seconds": found.seconds,
    }
    say(dumps({key: _plain(value) for key, value in facts.items()}, indent=2))


def _show_texts(where: str, found: TextEvaluation, name: str, *, as_json: bool) -> None:
    """Print how the vectors of texts find each other."""
    measures = {"loss": found.loss, **found.measures}
    known = {key: value for key, value in measures.items() if value is not None}
    counted = ("examples", found.examples)
    _show_measures(where, name, known, counted, found.seconds, as_json=as_json)


def _show_pairs(where: str, found: PairEvaluation, name: str, *, as_json: bool) -> None:
    """Print what held-out pairs of answers come to."""
    known, counted = {"loss": found.loss, **found.measures}, ("pairs", found.pairs)
    _show_measures(where, name, known, counted, found.seconds, as_json=as_json)


def _show_measures(
    where: str,
    name: str,
    known: dict[str, float],
    counted: tuple[str, int],
    seconds: float,
    *,
    as_json: bool,
) -> None:
    """Print numbers by their names, and of how many examples they are."""
    what, count = counted
    if as_json:
        facts = {"checkpoint": where, "data": name, **known, what: count, "seconds": seconds}
        say(dumps({key: _plain(value) for key, value in facts.items()}, indent=2))
        return
    parts = [f"{key} {value:.4f}" for key, value in known.items()]
    ends = [f"{count} {what}", duration_text(seconds)]
    say(f"{where}\n{name}: {' | '.join([*parts, *ends])}")


def _check_options(
    tasks: list[str],
    data: Path | None,
    include_path: Path | None,
    limit: int | None,
    few_shot: int | None,
) -> None:
    """Refuse options that say nothing beside the others."""
    if tasks and data is not None:
        raise ConfigError("--tasks: expected tasks or --data, got both; leave one out")
    given = {"--include-path": include_path, "--limit": limit, "--few-shot": few_shot}
    for name, value in given.items():
        if value is not None and not tasks:
            raise ConfigError(f"{name}: it is for --tasks, of which there are none; name some")


def _show_tasks(where: str, results: list[TaskResult], *, as_json: bool) -> None:
    """Print what tasks came to."""
    if as_json:
        found = {r.task: {"samples": r.samples, **r.metrics} for r in results}
        say(dumps({"model": where, "tasks": found}, indent=2))
        return
    say(where)
    for result in results:
        parts = [f"{name} {value:.4f}" for name, value in result.metrics.items()]
        say(f"{result.task}: {' | '.join([*parts, f'{result.samples} samples'])}")


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
    """Return a whole file or folder, read with the settings of the run if they are still there.

    No run says how to pack the rows of a published model. Its documents stay whole, so that short
    ones are all counted, and none is read from its middle.
    """
    tokenizer = opened.tokenizer
    section = DataSection() if opened.place is not None else DataSection(packing="whole")
    _check_readable(opened.where, DataSection(path=str(path)), tokenizer, registry)
    if opened.place is not None:
        with contextlib.suppress(CheckpointError):
            section = load_run_config(opened.place).data
    if tokenizer is None:
        section = section.model_copy(update={"vocab_size": model.vocab_size})
    try:
        dataset = load_file(path, tokenizer, model.seq_len, section, registry)
    except DataError as error:
        if section.name != PREFERENCES:
            raise
        raise DataError(
            f"{error}; a run on preferences is evaluated on its own held-out pairs, without "
            "--data, since only of these it is known what the model said before its first step"
        ) from error
    return _Windows(dataset, str(path), max(1, min(ROWS, TOKENS // model.seq_len)))


def _check_readable(
    where: str, data: DataSection, tokenizer: Tokenizer | None, registry: Registry
) -> None:
    """Raise an error for text if there is no tokenizer to read it."""
    if tokenizer is not None or data.name != "text":
        return
    sources = run_sources(data, formats=installed_formats(registry))
    if any(source.reads_text for source in sources):
        raise CheckpointError(
            f"{where}: the model has no tokenizer, so it cannot read text; {GIVE_TOKENIZER}, "
            "or use trainer.validate with a dataset of token ids"
        )


def _plain(value: object) -> object:
    """Return a value that JSON has: infinities and NaN become strings, as in metrics.jsonl."""
    return plain_number(value) if isinstance(value, float) else value

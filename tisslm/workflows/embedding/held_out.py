"""Evaluating a trained encoder on examples that its run has held out, or on a file of others."""

from __future__ import annotations

from pathlib import Path

from tisslm.contracts import EmbeddingLoss, Encoder, Tokenizer
from tisslm.datasets.examples import ExampleDataset
from tisslm.errors import CheckpointError
from tisslm.registry import Registry
from tisslm.training.evaluation import TextEvaluation, evaluate_texts
from tisslm.workflows.build.examples import EXAMPLES, load_example_file, load_held_out
from tisslm.workflows.build.formats import installed_formats
from tisslm.workflows.embedding.loading import said_of_texts
from tisslm.workflows.load_model import load_run_config
from tisslm.workflows.open_model import OpenModel

__all__ = ["evaluate_encoder"]

#: Correlations do not depend on the scale of the scores; a power of two keeps their digits.
ANY_SCORES = (-(2.0**20), 2.0**20)


def evaluate_encoder(
    opened: OpenModel, model: Encoder, data: Path | None, registry: Registry
) -> tuple[TextEvaluation, str]:
    """Evaluate an encoder with the loss, the prompts and the data of its run.

    Parameters
    ----------
    opened : OpenModel
        Where the encoder is from: a checkpoint of a run, or what somebody has published, whose
        files say what its prompts are; no loss is computed then, since they name none.
    model : Encoder
    data : Path or None
        A file of examples; None for those that the run has held out.
    registry : Registry

    Returns
    -------
    found : TextEvaluation
    name : str
        What it was evaluated on.

    Raises
    ------
    CheckpointError
        If there is no tokenizer, no file of examples, or the run has held none out.
    ConfigError, DataError
        If the examples cannot be read.
    """
    where, tokenizer = opened.where, opened.tokenizer
    if tokenizer is None:
        raise CheckpointError(
            f"{where}: the model has no tokenizer, so it cannot read examples; call "
            "tisslm.training.evaluation.evaluate_texts with a dataset of ids"
        )
    if opened.place is None:
        return _evaluate_published(opened, model, tokenizer, data, registry)
    config = load_run_config(opened.place)
    if config.data.name != EXAMPLES:
        raise CheckpointError(
            f"{where}: expected a run on examples, got one whose data.name is "
            f'"{config.data.name}"; call tisslm.training.evaluation.evaluate_texts with a dataset'
        )
    if data is not None:
        dataset = load_example_file(config, str(data), tokenizer, model.seq_len, registry)
    else:
        held_out = load_held_out(config, tokenizer, model.seq_len, registry)
        if held_out is None:
            raise CheckpointError(
                f"{where}: its run has held no examples out; give a file of some with --data"
            )
        dataset = held_out
    loss = registry.build("loss", config.loss)
    found = evaluate_texts(
        model,
        dataset,
        loss if isinstance(loss, EmbeddingLoss) else None,
        batch_size=config.training.batch_size,
        loss_batch=config.training.rows_per_update,
    )
    return found, dataset.source.name


def _evaluate_published(
    opened: OpenModel, model: Encoder, tokenizer: Tokenizer, data: Path | None, registry: Registry
) -> tuple[TextEvaluation, str]:
    """Evaluate an encoder of others on all examples of a file."""
    if data is None:
        raise CheckpointError(
            f"{opened.where}: no run has made it; give a file of examples with --data"
        )
    said = said_of_texts(opened)
    prompts, most = said.get("prompts", {}), said.get("max_tokens")
    dataset = ExampleDataset(
        data,
        tokenizer,
        model.seq_len,
        query_prompt=prompts.get("query", ""),
        document_prompt=prompts.get("document", ""),
        max_text_tokens=None if most is None else min(most, model.seq_len),
        score_range=ANY_SCORES,
        formats=installed_formats(registry),
    )
    return evaluate_texts(model, dataset), dataset.source.name

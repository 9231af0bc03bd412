"""Evaluating a trained encoder on examples that its run has held out, or on a file of others."""

from __future__ import annotations

from pathlib import Path

from tisslm.contracts import EmbeddingLoss, Encoder
from tisslm.errors import CheckpointError
from tisslm.registry import Registry
from tisslm.training.evaluation import TextEvaluation, evaluate_texts
from tisslm.workflows.build.examples import EXAMPLES, load_example_file, load_held_out
from tisslm.workflows.load_model import load_run_config
from tisslm.workflows.open_model import OpenModel

__all__ = ["evaluate_encoder"]


def evaluate_encoder(
    opened: OpenModel, model: Encoder, data: Path | None, registry: Registry
) -> tuple[TextEvaluation, str]:
    """Evaluate an encoder with the loss, the prompts and the data of its run.

    Parameters
    ----------
    opened : OpenModel
        Where the encoder is from: a checkpoint of a run.
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
        If no run says how examples are read, or it has held none out.
    ConfigError, DataError
        If the examples cannot be read.
    """
    where, tokenizer = opened.where, opened.tokenizer
    if opened.place is None or tokenizer is None:
        raise CheckpointError(
            f"{where}: expected a checkpoint of a run with a tokenizer, which says how its "
            "examples are read; give one, or call tisslm.training.evaluation.evaluate_texts"
        )
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

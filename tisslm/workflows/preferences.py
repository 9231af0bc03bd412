"""Evaluating a model that was trained on preferences on the pairs that its run has held out."""

from __future__ import annotations

from tisslm import checkpoint
from tisslm.config import RunConfig
from tisslm.contracts import Model, PreferenceLoss
from tisslm.datasets.examples import PreferenceDataset
from tisslm.errors import CheckpointError
from tisslm.registry import Registry
from tisslm.training.evaluation import PairEvaluation, evaluate_pairs
from tisslm.workflows.build.examples import PREFERENCES, load_held_out
from tisslm.workflows.load_model import load_run_config
from tisslm.workflows.open_model import OpenModel

__all__ = ["evaluate_preferences"]


def evaluate_preferences(
    opened: OpenModel, model: Model, registry: Registry
) -> tuple[PairEvaluation, str] | None:
    """Evaluate a model by the loss of its run, against the reference that its checkpoint has.

    Parameters
    ----------
    opened : OpenModel
        Where the model is from.
    model : Model
    registry : Registry

    Returns
    -------
    found : PairEvaluation
    name : str
        What it was evaluated on.
    None
        If it is no model of a run on preferences that has held some out.

    Raises
    ------
    CheckpointError
        If the checkpoint has no reference for these pairs.
    ConfigError, DataError
        If the pairs cannot be read.
    """
    config = _config(opened)
    if config is None or config.data.name != PREFERENCES or opened.tokenizer is None:
        return None
    dataset = load_held_out(config, opened.tokenizer, model.seq_len, registry)
    loss = registry.build("loss", config.loss)
    if not isinstance(dataset, PreferenceDataset) or not isinstance(loss, PreferenceLoss):
        return None
    if loss.needs_reference and opened.place is not None:
        _refer(opened.place, dataset)
    entropy = registry.build("loss", "cross_entropy")
    size = config.training.batch_size
    found = evaluate_pairs(model, dataset, loss, entropy, batch_size=size)
    return found, dataset.source.name


def _config(opened: OpenModel) -> RunConfig | None:
    """Return the configuration of the run that a model is from, None if there is none."""
    try:
        return None if opened.place is None else load_run_config(opened.place)
    except CheckpointError:  # composed in Python, or alone
        return None


def _refer(place: checkpoint.Found, dataset: PreferenceDataset) -> None:
    """Give pairs the reference that their run has computed."""
    found = checkpoint.read(place, (checkpoint.REFERENCE,)).files
    known, key = found.get(checkpoint.REFERENCE, {}), dataset.fingerprint()
    if key not in known:
        raise CheckpointError(
            f"{place.path}: expected the reference of {dataset.source.name} in the checkpoint, "
            "got that of other pairs or none; evaluate on the pairs of the run as they were"
        )
    dataset.reference = known[key]

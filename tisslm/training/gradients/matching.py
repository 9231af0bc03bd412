"""Which model, loss and data go together, and what then leaves the gradients of an update."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tisslm.config import TrainingConfig
from tisslm.contracts import Dataset, EmbeddingLoss, Encoder, Loss, Model, PreferenceLoss
from tisslm.contracts.model import predicting_model
from tisslm.contracts.part_names import name_of
from tisslm.contracts.preference import PAIR, REFERENCE, Referring
from tisslm.contracts.rows import check_rows
from tisslm.datasets.few import FewWindows
from tisslm.errors import ConfigError, DataError
from tisslm.tracking.monitoring import Monitoring
from tisslm.training.components import Components
from tisslm.training.gradients.gradients import Gradients
from tisslm.training.gradients.pairs import PairGradients
from tisslm.training.gradients.texts import TextGradients
from tisslm.training.gradients.tokens import TokenGradients

__all__ = ["make_gradients"]


def make_gradients(
    parts: Components, config: TrainingConfig, monitoring: Monitoring, check: Callable[[], None]
) -> Gradients:
    """Return what leaves the gradients of a run.

    Parameters
    ----------
    parts : Components
    config : TrainingConfig
    monitoring : Monitoring
    check : callable
        Called before each pass.

    Raises
    ------
    ConfigError
        If the loss is not for such a model, or the data are not for the loss; or the tokens of a
        language model see those that they are to predict.
    DataError
        If an epoch ends with an example that has nothing to be compared with.
    """
    model, loss = parts.model, parts.loss
    if isinstance(model, Encoder):
        if not isinstance(loss, EmbeddingLoss):
            raise ConfigError(
                f"loss {name_of(loss)}: expected a loss of vectors, such as contrastive, since the "
                "model makes vectors of texts, got one of logits; choose another loss, or a model "
                "without pooling"
            )
        _check_vectors(model, loss)
        for dataset, where in _datasets(parts):
            _check_examples(dataset, loss, where)
        if parts.dataset is not None and loss.needs_others:
            _check_company(parts.dataset, loss, config.rows_per_update)
        return TextGradients(model, loss, parts, config, monitoring, check)
    if not isinstance(model, Model) or isinstance(loss, EmbeddingLoss):
        raise ConfigError(
            f"loss {name_of(loss)}: expected a loss of logits, such as cross_entropy, since the "
            "model is a language model, got one of vectors; choose another loss, or a model with "
            "pooling"
        )
    predicting_model(model, f"loss {name_of(loss)}")
    for dataset, where in _datasets(parts):
        _check_pairs(dataset, loss, where)
    if isinstance(loss, Loss):
        return TokenGradients(model, loss, parts, config, monitoring, check)
    if not model.takes_documents:
        raise ConfigError(
            f"loss {name_of(loss)}: expected a model that keeps the documents of a row apart, as "
            f"the answers of pairs are, got {type(model).__name__}, which does not; take another, "
            "such as Transformer"
        )
    return PairGradients(model, loss, parts, config, monitoring, check)


def _datasets(parts: Components) -> Iterator[tuple[Dataset, str]]:
    """Yield the datasets that have a window, with what messages call them."""
    for dataset, where in ((parts.dataset, "dataset"), (parts.val_dataset, "val_dataset")):
        if dataset is not None and len(dataset):
            yield dataset, where


def _check_pairs(dataset: Dataset, loss: Loss | PreferenceLoss, where: str) -> None:
    """Refuse pairs for a loss of tokens, tokens for one of pairs, pairs that lack what it needs."""
    others, wanted = check_rows(dataset.window(0), where).others, isinstance(loss, PreferenceLoss)
    if wanted is not (PAIR in others):
        kinds = ("windows of tokens", "pairs of answers")
        advice = "take another loss, such as dpo"
        if wanted:
            advice = 'give others, such as data.name = "preferences", or another loss'
        raise ConfigError(
            f"{where}: expected {kinds[wanted]}, since the loss is {name_of(loss)}, got "
            f"{kinds[not wanted]}; {advice}"
        )
    if not isinstance(loss, PreferenceLoss) or not loss.needs_reference or REFERENCE in others:
        return
    whole = dataset.whole if isinstance(dataset, FewWindows) else dataset
    if not isinstance(whole, Referring):
        raise ConfigError(
            f"{where}: expected pairs with the log-probabilities of a reference "
            f"(others[{REFERENCE!r}]), or with room for them (an attribute reference), since the "
            f"loss {name_of(loss)} needs them, got none; give PreferenceDataset, or one such"
        )


def _check_vectors(model: Encoder, loss: EmbeddingLoss) -> None:
    """Refuse a model whose vectors are too short for the loss, or lack the temperature."""
    if loss.least_size > model.embedding_size:
        raise ConfigError(
            f"loss {name_of(loss)}: expected a model whose vectors have at least "
            f"{loss.least_size} numbers, which the loss is to see (dimensions), got "
            f"{model.embedding_size}; lower them, or raise the model's width or projection"
        )
    if loss.learns_scale and model.logit_scale is None:
        raise ConfigError(
            f"loss {name_of(loss)}: it takes the temperature that the model learns, but the model "
            "learns none; set model.logit_scale to 1 over the first temperature, or give the loss "
            "a number"
        )


def _check_examples(dataset: Dataset, loss: EmbeddingLoss, where: str) -> None:
    """Refuse data that are no examples, or not those that the loss is for."""
    others = check_rows(dataset.window(0), where).others
    if "lengths" not in others:
        raise ConfigError(
            f"{where}: expected examples of several texts, since the model makes vectors of texts, "
            "got windows of tokens; give pairs or triplets of texts, or a model without pooling"
        )
    n_texts, accepted = len(others["lengths"]), loss.n_texts
    if n_texts not in accepted:
        most = accepted[-1]
        wanted = f"{accepted[0]} or more" if most > 2**16 else f"{accepted[0]} to {most}"
        wanted = f"{most}" if accepted[0] == most else wanted
        raise ConfigError(
            f"{where}: expected examples of {wanted} texts, which the loss {name_of(loss)} takes, "
            f"got {n_texts}; choose other data or another loss"
        )
    if loss.needs_score and "score" not in others:
        raise ConfigError(
            f"{where}: expected examples with a score, which the loss {name_of(loss)} needs, got "
            "none; choose other data or another loss"
        )


def _check_company(dataset: Dataset, loss: EmbeddingLoss, rows: int) -> None:
    """Refuse updates of a single example, whose loss and gradients say nothing."""
    if rows == 1 or len(dataset) == 1:
        raise ConfigError(
            f"training.batch_size: expected at least two examples in an update, which the loss "
            f"{name_of(loss)} compares with each other, got one; raise it, or give more data"
        )
    if len(dataset) % rows == 1:
        raise DataError(
            f"dataset: its {len(dataset)} examples leave one alone at the end of an epoch, in "
            f"updates of {rows}, which the loss {name_of(loss)} can compare with no other; take "
            "one away, or another batch_size"
        )

"""Whether a dataset fits a model, what it leaves to the run, and how much of it is used.

What does not live here: reading data.
"""

from __future__ import annotations

from tisslm.config import TrainingConfig
from tisslm.contracts import Dataset, Model
from tisslm.datasets.few import FewWindows
from tisslm.errors import ConfigError

__all__ = ["few_windows", "fit_dataset", "steps_per_epoch"]


def fit_dataset(dataset: Dataset, model: Model, where: str, rows: int, seed: int) -> None:
    """Check a dataset against the model, and set what it was made without.

    Parameters
    ----------
    dataset : Dataset
        Its ``seq_len``, ``batch_size`` and ``seed`` are set where they are missing.
    model : Model
    where : str
        Name of the argument, for messages.
    rows : int
        Rows of one update: what iterating over the dataset delivers at once.
    seed : int

    Raises
    ------
    ConfigError
        If windows are longer than the model takes, or ids are outside its vocabulary.
    """
    if not hasattr(dataset, "seq_len"):
        dataset.seq_len = model.seq_len
    if dataset.seq_len > model.seq_len:
        raise ConfigError(
            f"{where}: its windows have {dataset.seq_len} tokens, the model takes at most "
            f"{model.seq_len}; set the same seq_len for both"
        )
    if dataset.vocab_size > model.vocab_size:
        raise ConfigError(
            f"{where}: its tokenizer has {dataset.vocab_size} ids, the model a vocabulary of "
            f"{model.vocab_size}; set model.vocab_size to at least {dataset.vocab_size}"
        )
    if dataset.batch_size is None:
        dataset.batch_size = rows
    if dataset.seed is None:
        dataset.seed = seed


def few_windows(
    train: Dataset | None, valid: Dataset | None, config: TrainingConfig
) -> tuple[Dataset | None, Dataset | None]:
    """Return what a run trains and validates on: all, or with ``overfit_batches`` a few windows.

    Parameters
    ----------
    train, valid : Dataset or None
        Fitted. Without validation data, there are none of the few either.
    config : TrainingConfig
    """
    if not config.overfit_batches or train is None:
        return train, valid
    rows = config.rows_per_update
    order = train.order(config.seed, 0)
    count = min(config.overfit_batches * rows, len(train))
    few = FewWindows(train, [order[place] for place in range(count)])
    return few, None if valid is None else few


def steps_per_epoch(dataset: Dataset | None, config: TrainingConfig) -> int:
    """Count the batches of one pass over a dataset, the last of which may be smaller.

    Parameters
    ----------
    dataset : Dataset or None
        Without one, there are none.
    config : TrainingConfig
    """
    return 0 if dataset is None else -(-len(dataset) // config.rows_per_update)

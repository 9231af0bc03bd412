"""Whether a dataset fits a model, and what it leaves to the run.

What does not live here: reading data.
"""

from __future__ import annotations

from tisslm.contracts import Dataset, Model
from tisslm.errors import ConfigError

__all__ = ["fit_dataset"]


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

"""The batches of a run: whether its data fit, and the next one made ahead."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

import numpy as np

from tisslm.config import TrainingConfig
from tisslm.contracts import Dataset, Encoder, Network, Rows
from tisslm.contracts.preference import PAIR
from tisslm.contracts.rows import IDS, check_rows
from tisslm.datasets.few import FewWindows
from tisslm.errors import ConfigError, DataError, TissLMError

__all__ = [
    "Prefetch",
    "few_windows",
    "fit_dataset",
    "steps_per_epoch",
    "window_numbers",
]


def fit_dataset(dataset: Dataset, model: Network, where: str, rows: int, seed: int) -> None:
    """Check a dataset against the model, and set what it was made without.

    Parameters
    ----------
    dataset : Dataset
        Its ``seq_len``, ``batch_size`` and ``seed`` are set where they are missing.
    model : Network
    where : str
        Name of the argument, for messages.
    rows : int
        Rows of one update: what iterating over the dataset delivers at once.
    seed : int

    Raises
    ------
    ConfigError
        If a language model gets examples of texts or windows that are too long, or ids are outside
        the vocabulary.
    DataError
        If the first window is no ``Rows`` of integers of shape (T,).
    """
    if not dataset.seq_len:
        dataset.seq_len = model.seq_len
    first = check_rows(dataset.window(0), where) if len(dataset) else None
    if first is not None and "lengths" in first.others and not isinstance(model, Encoder):
        raise ConfigError(
            f"{where}: expected windows of tokens, since the model is a language model, got "
            'examples of several texts; set model.pooling, such as "mean", or give other data'
        )
    packed = isinstance(model, Encoder) or (first is not None and PAIR in first.others)
    if dataset.seq_len > model.seq_len and not packed:
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
    if first is not None:
        _check_window(first, dataset.seq_len, where)


def _check_window(window: Rows, seq_len: int, where: str) -> None:
    """Refuse arrays that no batch can be made of, before a run takes any memory."""
    for name, array in window.arrays.items():
        if name not in IDS:
            continue
        kind, shape = getattr(array, "dtype", type(array).__name__), np.shape(array)
        if not (isinstance(array, np.ndarray) and array.dtype.kind in "iu" and shape == (seq_len,)):
            raise DataError(
                f"{where}: expected windows of integer arrays of shape ({seq_len},), the "
                f"dataset's seq_len, got {name} of {kind} and shape {shape}; return such arrays "
                "from window"
            )


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
        Of None, the count is 0.
    config : TrainingConfig
    """
    return 0 if dataset is None else -(-len(dataset) // config.rows_per_update)


def window_numbers(
    dataset: Dataset, config: TrainingConfig, position: int, batches: int
) -> list[int]:
    """Return the numbers of the windows of some batches, each once.

    Parameters
    ----------
    dataset : Dataset
    config : TrainingConfig
    position : int
        The number of the first batch.
    batches : int
    """
    rows, per_epoch = config.rows_per_update, steps_per_epoch(dataset, config)
    found: dict[int, None] = {}
    for number in range(position, position + batches):
        epoch, within = divmod(number, per_epoch)
        order = dataset.order(config.seed, epoch)
        for place in range(within * rows, min((within + 1) * rows, len(dataset))):
            found[int(order[place])] = None
    return list(found)


#: Seconds that closing waits for a dataset that hangs; its thread ends with the process then.
PATIENCE = 5.0
#: Seconds between two looks at whether to go on waiting for a batch.
LOOK = 0.2


class Prefetch:
    """Iterate over batches, one ahead.

    ``next`` returns a batch and has the one after it made by a thread of its own, which runs
    while the kernels do (they hold no lock of the interpreter). Nothing is copied: ``stream``
    promises that a batch is good until the next but one is asked for, so here it is good until the
    next ``next``. What the dataset raises is raised by the ``next`` that would have returned the
    batch.

    Parameters
    ----------
    batches : iterator of Rows
        A ``Dataset.stream``.
    check : callable, optional
        Called now and then while a batch is waited for; what it raises ends the waiting.

    Examples
    --------
    >>> with Prefetch(dataset.stream(4, seed=1)) as batches:  # doctest: +SKIP
    ...     rows = next(batches)
    """

    def __init__(self, batches: Iterator[Rows], check: Callable[[], None] | None = None) -> None:
        self._batches = batches
        self._check = check
        self._made: Rows | BaseException | None = None
        self._wanted, self._ready = threading.Event(), threading.Event()
        self._closed = False
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._work, name="tisslm-prefetch", daemon=True)
        self._thread.start()
        self._wanted.set()

    def __iter__(self) -> Prefetch:
        return self

    def __next__(self) -> Rows:
        """Return the next batch, with arrays of shape (B, T); wait if it is not made yet."""
        self.settle()
        made = self._made
        if isinstance(made, BaseException):
            raise made
        if made is None:  # closed
            raise StopIteration
        self._made = None
        self._ready.clear()
        self._wanted.set()
        return made

    def settle(self) -> None:
        """Wait until no thread touches the dataset; it stays so until the next ``next``.

        Raises
        ------
        TissLMError
            In a forked child, which would wait for a thread that it does not have.
        """
        if os.getpid() != self._process:
            raise TissLMError(
                "trainer.train: this process was forked from the one that trains, which alone can "
                "go on. Start processes with multiprocessing's 'spawn' method"
            )
        while not self._ready.wait(LOOK):
            if self._check is not None:
                self._check()

    def close(self) -> None:
        """End the thread, and with it the iterator; a forked child has none to end."""
        if os.getpid() != self._process:
            return
        self._closed = True
        self._wanted.set()
        self._thread.join(PATIENCE)
        self._made = None
        self._ready.set()

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ the thread

    def _work(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._closed:
                break
            try:
                self._made = next(self._batches)
            except BaseException as error:  # it belongs to the thread that asked
                self._made = error
            self._ready.set()
        close = getattr(self._batches, "close", None)
        if close is not None:
            close()

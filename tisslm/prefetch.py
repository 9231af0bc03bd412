"""The next batch, made by a thread while the step computes.

What does not live here: which batch is next, and in which arrays; the dataset's ``stream`` says.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

from tisslm.contracts import Window
from tisslm.errors import TissLMError

__all__ = ["Prefetch"]

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
    batches : iterator of pairs or triples of arrays
        A ``Dataset.stream``.
    check : callable, optional
        Called now and then while a batch is waited for; what it raises ends the waiting.

    Examples
    --------
    >>> with Prefetch(dataset.stream(4, seed=1)) as batches:  # doctest: +SKIP
    ...     x_BT, y_BT = next(batches)
    """

    def __init__(self, batches: Iterator[Window], check: Callable[[], None] | None = None) -> None:
        self._batches = batches
        self._check = check
        self._made: Window | BaseException | None = None
        self._wanted, self._ready = threading.Event(), threading.Event()
        self._closed = False
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._work, name="tisslm-prefetch", daemon=True)
        self._thread.start()
        self._wanted.set()

    def __iter__(self) -> Prefetch:
        return self

    def __next__(self) -> Window:
        """Return the next batch, int arrays of shape (B, T); wait if it is not made yet."""
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

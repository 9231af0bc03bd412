"""Computing the next values of an iterator in a thread, ahead of their use."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

__all__ = ["ahead"]

T = TypeVar("T")

#: Seconds between two checks of a thread whether it is still needed.
PATIENCE = 0.1


class _End:
    """The end of the values, with the exception that was raised, if any."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def ahead(values: Iterable[T], depth: int) -> Generator[T]:
    """Yield the values of an iterator while a thread computes the next ones.

    At most ``depth`` values wait, and one is being computed. An exception of the iterator is raised
    here, after the values before it. Closing the generator ends the thread.

    Parameters
    ----------
    values : iterable
        Read by the thread alone.
    depth : int
        At least 1.
    """
    waiting: queue.Queue[T | _End] = queue.Queue(depth)
    stopped = threading.Event()
    thread = threading.Thread(target=_fill, args=(values, waiting, stopped), daemon=True)
    thread.start()
    try:
        while not isinstance(value := waiting.get(), _End):
            yield value
        if value.error is not None:
            raise value.error
    finally:
        stopped.set()
        thread.join()


def _fill(values: Iterable[T], waiting: queue.Queue[T | _End], stopped: threading.Event) -> None:
    end = _End(None)
    try:
        for value in values:
            if not _put(value, waiting, stopped):
                break
    except BaseException as error:  # handed to whoever reads
        end = _End(error)
    finally:
        close = getattr(values, "close", None)
        if close is not None:  # threads that it has started end with it
            close()
    _put(end, waiting, stopped)


def _put(value: T | _End, waiting: queue.Queue[T | _End], stopped: threading.Event) -> bool:
    """Wait for room in the queue and put a value; return False if nobody reads any more."""
    while not stopped.is_set():
        try:
            waiting.put(value, timeout=PATIENCE)
        except queue.Full:
            continue
        return True
    return False

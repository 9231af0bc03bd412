"""Handling errors of a tokenizer library written in Rust: bare exceptions and panics."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator

from tisslm.errors import TissLMError

__all__ = ["is_of_library", "refused_errors", "without_panic_text"]

#: The beginning of the message that Rust prints for a panic.
_PANIC = re.compile(rb"\n?thread [^\n]*panicked at ")

_lock = threading.Lock()


def is_of_library(error: BaseException) -> bool:
    """Return True for an exception or a panic of the library, False for a request to exit."""
    # Its class derives from BaseException and has no public name.
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


@contextlib.contextmanager
def refused_errors(refusal: Callable[[BaseException], TissLMError]) -> Iterator[None]:
    """Turn errors of a library within a ``with`` block into errors of ours.

    Parameters
    ----------
    refusal : callable
        Returns the error to raise for an error of the library.

    Raises
    ------
    TissLMError
        The result of ``refusal``. MemoryError, interrupts and errors of ours are raised unchanged.
    """
    try:
        yield
    except (MemoryError, TissLMError):
        raise
    except BaseException as error:
        if not is_of_library(error):
            raise
        raise refusal(error) from error


@contextlib.contextmanager
def without_panic_text() -> Iterator[None]:
    """Keep the text of a Rust panic from standard error, within a ``with`` block.

    What others have written meanwhile follows at its end; if the block raises, everything from the
    beginning of the panic is dropped. The standard error of the whole process is held, so the block
    must be short.
    """
    with _lock, os.fdopen(os.memfd_create("tisslm-stderr"), "rb") as held:
        try:
            before = os.dup(2)
        except OSError:  # there is none
            yield
            return
        try:
            _flush()
            os.dup2(held.fileno(), 2)
            yield
        finally:
            _flush()
            os.dup2(before, 2)
            os.close(before)
            held.seek(0)
            text = held.read()
            with contextlib.suppress(OSError):
                os.write(2, _PANIC.split(text)[0])


def _flush() -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or none
        sys.stderr.flush()

"""SHA-256 of what is written and read, beside the writing and on several threads.

hashlib releases the interpreter's lock for large blocks, so hashing costs a save no time while
there is a core left.

What does not live here: where digests are kept (``manifest``), and what is compared with them
(``verification``).
"""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

__all__ = ["Digest"]

_INLINE = 2**18  # bytes up to which a thread would take longer than the hash
_AHEAD = 8  # blocks that may wait to be hashed: bounds the memory of arrays copied to be written


class Digest:
    """The SHA-256 of blocks in order; large ones are hashed by a thread of its own.

    A block must not change before ``finish`` has returned.

    Attributes
    ----------
    size : int
        Bytes so far.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._thread: ThreadPoolExecutor | None = None
        self._waiting: deque[Future[None]] = deque()
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    def update(self, block: memoryview) -> None:
        """Add a block."""
        self.size += len(block)
        if self._thread is None and len(block) <= _INLINE:
            self._hash.update(block)
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "tisslm-sha256")
        if len(self._waiting) == _AHEAD:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._hash.update, block))

    def finish(self) -> str:
        """Wait for all blocks and return the digest in hexadecimal."""
        while self._waiting:
            self._waiting.popleft().result()
        return self._hash.hexdigest()

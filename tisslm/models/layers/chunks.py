"""The chunks of rows that sublayers give to their operations.

Those of the loss are ``tisslm.contracts.chunk_rows``.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["CHUNK", "chunks"]

#: Rows of one chunk: enough for the packing of the weights to cost under 3 %, few enough for what
#: one operation leaves to the next (chunk x 4C at most) to stay near the last-level cache. A
#: multiple of 64, so that the sums over rows have the order they have without chunks.
CHUNK = 1024


def chunks(rows: int) -> Iterator[slice]:
    """Yield slices that cut rows into chunks; they depend on the shape alone."""
    for start in range(0, rows, CHUNK):
        yield slice(start, min(start + CHUNK, rows))

"""The chunks of rows that sublayers, and the head, give to their operations.

Those whose losses are added up at once are ``tisslm.contracts.chunk_rows``.
"""

from __future__ import annotations

from collections.abc import Iterator

from tisslm import ops

__all__ = ["CHUNK", "chunks", "rows_at_once"]

#: Rows of one chunk on few threads: enough for the packing of the weights to cost under 3 %,
#: few enough for what one operation leaves to the next (chunk x 4C at most) to stay near the
#: last-level cache. A multiple of 64, so that the sums over rows have the order they have without
#: chunks, however many rows are a chunk.
CHUNK = 1024


def rows_at_once(rows: int, dtype: str, at_most: int | None = None) -> int:
    """Return how many rows are a chunk, of which up to fifteen threads take ``rows``.

    More threads have more caches together, and of so few rows each would have too few to be worth a
    barrier. Bits do not depend on it: where products are another library's, which adds in an order
    that follows from the rows, a chunk is the same for any number of threads.

    Parameters
    ----------
    rows : int
    dtype : {"float32", "float64"}
        Of the stream; the twins compute in float64.
    at_most : int, optional
        How many times as many are the most.
    """
    ours = dtype == "float32" and ops.engine().get("isa", "baseline") != "baseline"
    times = max(1, ops.thread_count().count // 8) if ours else 1
    return rows * (times if at_most is None else min(times, at_most))


def chunks(rows: int, at_once: int = CHUNK) -> Iterator[slice]:
    """Yield slices that cut rows into chunks."""
    for start in range(0, rows, at_once):
        yield slice(start, min(start + at_once, rows))

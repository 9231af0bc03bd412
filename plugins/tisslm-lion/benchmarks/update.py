"""Lion's kernel beside its NumPy form, in turns: ``update.py [million parameters] [threads]``."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from time import perf_counter

import numpy as np
from tisslm_lion import reference
from tisslm_lion.lion import lion_update

from tisslm import ops

ROUNDS = 15
#: Elements that NumPy handles at once: a block's arrays and temporaries stay in a core's cache.
BLOCK = 16384
RATES = (1e-3, 0.9, 0.99, 0.1, 1.0)


def main(millions: float = 10.7, threads: int = 2) -> None:
    """Print the median of each form, and of their ratios in each turn."""
    if ops.REFERENCE_ONLY:
        sys.exit("update.py: TISSLM_OPS=reference leaves no kernel to be measured; unset it")
    rng, size = np.random.default_rng(0), round(millions * 1e6)
    p_P, g_P, m_P = (rng.standard_normal(size, dtype=np.float32) for _ in range(3))
    ops.set_threads(threads)

    def kernel() -> None:
        lion_update(p_P, g_P, m_P, *RATES)

    def numpy_form() -> None:
        for start in range(0, size, BLOCK):
            part = slice(start, start + BLOCK)
            reference.lion_update(p_P[part], g_P[part], m_P[part], *RATES)

    turns = [(seconds(kernel), seconds(numpy_form)) for _ in range(ROUNDS)][1:]  # one to warm up
    by_kernel, by_numpy = (statistics.median(turn[i] for turn in turns) for i in (0, 1))
    ratio = statistics.median(slow / fast for fast, slow in turns)
    print(f"Lion, {size} parameters, {threads} threads: kernel {by_kernel * 1e3:.1f} ms, NumPy in")
    print(f"blocks {by_numpy * 1e3:.1f} ms, {ratio:.1f} times as long")


def seconds(call: Callable[[], None]) -> float:
    """Return how long a call takes."""
    start = perf_counter()
    call()
    return perf_counter() - start


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]), *map(int, sys.argv[2:3]))

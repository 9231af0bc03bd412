"""What no kernel can be faster than on this machine: multiply-adds in registers, and memory.

Both are measured in the run that uses them, on the threads that it uses; the best one counts.

What does not live here: kernels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import clone  # noqa: F401 (finds tisslm)
import numpy as np

from tisslm import ops
from tisslm._kernels import peak
from tisslm.memory import Arena

__all__ = ["Bounds", "peaks"]

STREAM_BYTES = 256 * 2**20  # beyond the caches of nearly every machine


def peaks(threads: int, seconds: float) -> dict[str, float]:
    """Measure the machine's rates in registers, in GFLOP/s: fp32, and bf16 where it has that."""
    found = {"fp32": peak.fma_gflops(threads, seconds)}
    if ops.multiplies_bf16():
        found["bf16"] = peak.bf16_gflops(threads, seconds)
    return found


@dataclass
class Bounds:
    """The bounds, from as many measurements as there are rounds.

    Attributes
    ----------
    threads : int
    gflops : dict of str to list of float
        By precision, GFLOP/s.
    stream : list of float
        GB/s of reading and writing one array that no cache holds.
    """

    threads: int
    gflops: dict[str, list[float]] = field(default_factory=dict)
    stream: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._array = Arena(STREAM_BYTES).take((STREAM_BYTES // 4,), np.float32)

    def measure(self, seconds: float) -> None:
        """Measure every bound once, each for so long."""
        for precision, rate in peaks(self.threads, seconds).items():
            self.gflops.setdefault(precision, []).append(rate)
        best, end = float("inf"), perf_counter() + seconds
        while perf_counter() < end:
            start = perf_counter()
            ops.scale(self._array, 1.0)
            best = min(best, perf_counter() - start)
        self.stream.append(2 * STREAM_BYTES / best / 1e9)

    def limit(self, bound: str, precision: str) -> float:
        """Return GFLOP/s for "products" (fp32's if the precision has none), GB/s for "memory"."""
        if bound == "memory":
            return max(self.stream)
        return max(self.gflops.get(precision) or self.gflops["fp32"])

    def lines(self) -> list[str]:
        """Say the bounds for reading."""
        rates = ", ".join(f"{name} {max(found):.1f}" for name, found in self.gflops.items())
        return [
            f"peak of this machine in this run, GFLOP/s: {rates}",
            f"memory in this run: {max(self.stream):.1f} GB/s read and written",
        ]

    def as_json(self) -> dict[str, Any]:
        """Return the bounds for a file."""
        return {
            "peak_gflops": max(self.gflops["fp32"]),
            "peak_bf16_gflops": max(self.gflops["bf16"]) if "bf16" in self.gflops else None,
            "stream_gb_per_s": max(self.stream),
            "peak_gflops_rounds": self.gflops["fp32"],
            "stream_gb_per_s_rounds": self.stream,
        }

"""Attention alone: a window beside the whole row, what each thread does, one's share of the peak.

What does not live here: the kernels (``tisslm._kernels.attention``), and whole passes over rows of
several documents (``document_mask``).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from time import perf_counter, thread_time
from typing import Annotated, Any

import clone  # noqa: F401 (finds tisslm)
import numpy as np
import typer
from bounds import peaks
from command import ElementType, JsonFile, Rounds, Threads
from job import Precision
from machine import describe, say, stop, usable_cores, warn_if_busy, write_json
from numpy.typing import NDArray

from tisslm import ops
from tisslm.models.window import fill_window
from tisslm.ops.cost import flops
from tisslm.ops.reference import attention as twin
from tisslm.ops.reference.storage import store

Array = NDArray[Any]

NO_DROPOUT = (0.0, 0, 0, 0, 0)
DTYPES = {"fp32": np.float32, "bf16": np.uint16, "fp16": np.float16}

#: What output and gradient of a head may differ from the float64 twin's, of their largest element:
#: roundings of probabilities and of what is stored, over sums of up to T terms.
TOLERANCE = {"fp32": 1e-5, "bf16": 5 * 2.0**-8, "fp16": 5 * 2.0**-11}


@dataclass(frozen=True)
class Shape:
    """B samples of T tokens, H query heads on K key heads, D channels each."""

    B: int
    T: int
    H: int
    K: int
    D: int


def parse_shape(text: str) -> Shape:
    """Turn ``2,2048,8,8,64`` into a shape.

    Raises
    ------
    ValueError
        With one sentence that says what was expected.
    """
    fields = text.split(",")
    numbers = [int(part) for part in fields if part.strip().isdecimal()]
    if len(fields) != 5 or len(numbers) != 5 or min(numbers) < 1 or numbers[2] % numbers[3]:
        raise ValueError(
            "--shape: expected B,T,H,K,D with H a multiple of K, such as 2,2048,8,8,64, "
            f"got {text!r}"
        )
    return Shape(*numbers)


class Attention:
    """One call of forward and one of backward, on numbers that are always the same."""

    def __init__(self, shape: Shape, precision: str, start: Array | None) -> None:
        B, T, H, K, D = astuple(shape)
        rng = np.random.default_rng(0)
        self.shape, dtype = shape, DTYPES[precision]
        self.qkv = np.empty((B, T, (H + 2 * K) * D), dtype)
        self.dout = np.empty((B, T, H * D), dtype)
        for array in (self.qkv, self.dout):
            store(array, rng.standard_normal(array.shape))
        self.out, self.dqkv = np.zeros_like(self.dout), np.zeros_like(self.qkv)
        self.lse = np.zeros((B, H, T), np.float32)
        self.rest: Any = (H, K, 1 / math.sqrt(D), *NO_DROPOUT, start, None)
        room = ops.dkv_shape(B, T, H, K, D)
        self.dkv = None if room is None else np.zeros(room, np.float32)

    def forward(self) -> None:
        """Attend."""
        ops.attention_forward(self.qkv, self.out, self.lse, *self.rest)

    def backward(self) -> None:
        """Compute the gradients of what forward did."""
        last: Any = (*self.rest, self.dkv)
        ops.attention_backward(self.dout, self.qkv, self.out, self.lse, self.dqkv, *last)

    def both(self) -> None:
        """Attend, and compute the gradients."""
        self.forward()
        self.backward()

    def error(self) -> float:
        """Return how far output and query gradient of the first head are from the twin's."""
        _, T, H, K, D = astuple(self.shape)
        own = slice(0, D)
        parts = [ops.widen(self.qkv[:1, :, i * D : (i + 1) * D]) for i in (0, H, H + K)]
        qkv, dout = np.concatenate(parts, axis=2), ops.widen(self.dout[:1, :, own])
        qkv, dout = qkv.astype(np.float64), dout.astype(np.float64)
        out, lse, dqkv = np.zeros((1, T, D)), np.zeros((1, 1, T)), np.zeros_like(qkv)
        start = self.rest[-2]
        rest: Any = (1, 1, *self.rest[2:-2], None if start is None else start[:1], None)
        twin.attention_forward(qkv, out, lse, *rest)
        twin.attention_backward(dout, qkv, out, lse, dqkv, *rest, None)
        self.both()
        pairs = ((self.out, out), (self.dqkv, dqkv[..., own]))
        return max(
            float(np.abs(ops.widen(found[:1, :, own]) - right).max() / np.abs(right).max())
            for found, right in pairs
        )


def seconds(call: Callable[[], None]) -> float:
    """Return how long a call takes."""
    begin = perf_counter()
    call()
    return perf_counter() - begin


def processor_times() -> dict[str, int]:
    """Return the nanoseconds on a processor of every thread of this process, where Linux tells."""
    tasks = Path("/proc/self/task").glob("*/schedstat")
    return {task.parent.name: int(task.read_text().split()[0]) for task in tasks}


def by_thread(call: Callable[[], None], threads: int, rounds: int) -> list[float]:
    """Return the milliseconds of processor time of the thread that spends most in a call, and on.

    They are sorted within each call, and the median over the calls is taken for each place: which
    thread is the busiest changes from call to call.
    """
    found = []
    for _ in range(rounds):
        before = processor_times()
        call()
        spent = [now - before.get(thread, 0) for thread, now in processor_times().items()]
        found.append(sorted((ns / 1e6 for ns in spent), reverse=True)[:threads])
    return [statistics.median(place) for place in zip(*found, strict=True)]


def shares_of_peak(one: Attention, precision: str, rounds: int) -> dict[str, float]:
    """Return which share of the peak forward and backward reach on one thread, by processor time.

    The peak is that of each turn, at the same level; medians of the turns.
    """
    out = {"out_BTC": one.out}
    found: dict[str, list[float]] = {"forward": [], "backward": []}
    for _ in range(rounds):
        rates = peaks(1, 0.06)
        peak = rates.get(precision, rates["fp32"]) * 1e9
        for name, call in (("forward", one.forward), ("backward", one.backward)):
            begin = thread_time()
            call()
            rate = flops(f"attention_{name}", out) / (thread_time() - begin)
            found[name].append(rate / peak)
    return {name: statistics.median(turns) for name, turns in found.items()}


def run(
    shape: Annotated[str, typer.Option(help="B,T,H,K,D.")] = "2,2048,8,8,64",
    window: Annotated[int, typer.Option(min=1, help="Keys that a query sees.")] = 256,
    precision: ElementType = Precision.fp32,
    rounds: Rounds = 15,
    threads: Threads = 0,
    json_file: JsonFile = None,
) -> None:
    """Time forward and backward in turns, after comparing a head with the float64 twin."""
    try:
        sizes = parse_shape(shape)
    except ValueError as error:
        stop(str(error), 2)
    threads = threads or usable_cores()
    load = warn_if_busy(threads)
    ops.set_threads(threads)
    see = np.empty((sizes.B, sizes.T), np.int32)
    fill_window(see, None, window)
    whole, near = (Attention(sizes, precision.value, start) for start in (None, see))
    for one in (whole, near):
        if (error := one.error()) > TOLERANCE[precision.value]:
            stop(f"a head differs from the twin by {error:.1e} of its largest element", 1)
    say("output and gradient of a head are the twin's")
    times = [(seconds(whole.both), seconds(near.both)) for _ in range(rounds)]
    ratio = statistics.median(n / w for w, n in times)
    of_whole, of_near = (statistics.median(side) * 1e3 for side in zip(*times, strict=True))
    pairs = float((np.arange(sizes.T) - see + 1).mean()) / ((sizes.T + 1) / 2)
    busy = by_thread(whole.backward, threads, rounds)
    print(f"{sizes}, {precision.value}, {threads} threads")
    print(f"window of {window} keys: {pairs:.0%} of the pairs of query and key\n")
    print(f"forward and backward: {of_whole:.1f} ms, in the window {of_near:.1f} ms, {ratio:.2f}")
    took = ", ".join(f"{ms:.1f}" for ms in busy) or "not told by this system"
    print(f"backward of the whole row, processor time (not elapsed) of each thread, ms: {took}")
    shares = {}
    if threads == 1:
        shares = shares_of_peak(whole, precision.value, rounds)
        parts = " and ".join(f"{name} {share:.0%}" for name, share in shares.items())
        print(f"of the peak of this thread, by its processor time: {parts}")
    document = {"shape": shape, "window": window, "precision": precision.value}
    document |= {"threads": threads, "machine": describe(), "load_before": load, "pairs": pairs}
    document |= {"whole_s": [w for w, _ in times], "window_s": [n for _, n in times]}
    document |= {"window_of_whole": ratio, "backward_thread_ms": busy, "of_peak": shares}
    write_json(json_file, document)


if __name__ == "__main__":
    typer.run(run)

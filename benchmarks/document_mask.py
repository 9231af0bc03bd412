"""The same batch with its documents kept apart and without: ``document_mask.py --help``.

What does not live here: the mask (``tisslm._kernels.attention``), and how documents are packed.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from time import perf_counter
from typing import Annotated, Any

import clone  # noqa: F401 (finds tisslm)
import numpy as np
import typer
from command import Bias, ElementType, JsonFile, Rounds, SizeName, Threads
from job import Precision
from machine import describe, say, stop, usable_cores, warn_if_busy, write_json
from numpy.typing import NDArray
from sizes import Size, parse_size
from timers import Timer

from tisslm import Transformer, TransformerConfig, ops
from tisslm.contracts import IGNORE_INDEX, Batch, target_weights
from tisslm.optim.losses.cross_entropy import CrossEntropy

#: What a document's loss may differ from its loss alone, relative; rounding of stored values in
#: two bytes, averaged over its targets.
TOLERANCE = {"fp32": 1e-5, "bf16": 2.0**-7, "fp16": 2.0**-10}

WITH, WITHOUT = "documents", "one document"


@dataclass
class Times:
    """Seconds of a pass and of its attention, one figure for each round."""

    passes: list[float] = field(default_factory=list)
    attention: list[float] = field(default_factory=list)


def parse_lengths(text: str, time: int) -> tuple[int, int]:
    """Turn ``128,256`` into the least and the largest length of a document.

    Raises
    ------
    ValueError
        With one sentence that says what was expected.
    """
    fields = text.split(",")
    numbers = [int(part) for part in fields if part.strip().isdecimal()]
    if len(numbers) != 2 or len(fields) != 2 or not 1 <= numbers[0] <= numbers[1]:
        raise ValueError(
            f"--documents: expected the least and the largest length, such as 128,256, got {text!r}"
        )
    return min(numbers[0], time), min(numbers[1], time)


def draw_starts(size: Size, lengths: tuple[int, int]) -> NDArray[np.int32]:
    """Cut each row into documents of drawn lengths; the ends of a row cut some, as in a stream."""
    rng = np.random.default_rng(1)
    start = np.zeros((size.batch, size.time), np.int32)
    for row in start:
        end = int(rng.integers(1, lengths[1] + 1))
        while end < size.time:
            row[end:] = end
            end += int(rng.integers(lengths[0], lengths[1] + 1))
    return start


def make_batch(size: Size, start: NDArray[np.int32]) -> Batch:
    """Draw tokens; a document's last one has no target."""
    x, y = np.random.default_rng(0).integers(
        0, size.vocab_size, (2, size.batch, size.time), dtype=np.int32
    )
    y[:, :-1][start[:, 1:] != start[:, :-1]] = IGNORE_INDEX
    y[:, -1] = IGNORE_INDEX
    return Batch(x, y, target_weights(y, np.float64), start)


def verify(model: Transformer, batch: Batch, tolerance: float) -> int:
    """Compare the loss of every document with its loss alone; return how many there are.

    Raises
    ------
    ArithmeticError
        If one differs.
    """
    loss, count = CrossEntropy(), 0
    options: dict[str, Any] = {"gradient": False, "train": False}
    assert batch.start_BT is not None
    for row, start in enumerate(batch.start_BT):
        one = slice(row, row + 1)
        for begin in np.unique(start):
            own = start == begin
            weights = np.where(own & (batch.y_BT[row] >= 0), 1.0 / own.sum(), 0.0)[None]
            whole = Batch(batch.x_BT[one], batch.y_BT[one], weights, batch.start_BT[one])
            alone = Batch(batch.x_BT[one, own], batch.y_BT[one, own], weights[:, own])
            found, expected = (model.step_loss(part, loss, **options) for part in (whole, alone))
            if abs(found - expected) > tolerance * max(1.0, abs(expected)):
                raise ArithmeticError(
                    f"the document at row {row}, position {begin} has loss {found}, "
                    f"alone {expected}"
                )
            count += 1
    return count


def one_pass(model: Transformer, batch: Batch, times: Times) -> None:
    """Time forward and backward, with the attention in it."""
    timer = Timer()
    model.parameters.zero_grad()
    with ops.watching(timer):
        begin = perf_counter()
        model.step_loss(batch, CrossEntropy())
        times.passes.append(perf_counter() - begin)
    times.attention.append(timer.seconds["attention"])


def seen_share(start: NDArray[np.int32]) -> float:
    """Return the share of the causal pairs of query and key that documents leave."""
    time = start.shape[1]
    return float((np.arange(time) - start + 1).sum() / (len(start) * time * (time + 1) / 2))


def table(found: dict[str, Times]) -> str:
    """Lay the results out for reading."""
    lines = [f"{'':14}{'pass, ms':>12}{'fastest':>10}{'attention, ms':>16}{'fastest':>10}"]
    for name, times in found.items():
        lines.append(
            f"{name:14}{statistics.median(times.passes) * 1e3:12.1f}{min(times.passes) * 1e3:10.1f}"
            f"{statistics.median(times.attention) * 1e3:16.1f}{min(times.attention) * 1e3:10.1f}"
        )
    ratios = (ratio(found, "passes"), ratio(found, "attention"))
    lines += ["", "with documents, times as fast: pass {:.2f}, attention {:.2f}".format(*ratios)]
    return "\n".join(lines)


def ratio(found: dict[str, Times], what: str) -> float:
    """Return the median over the rounds of how many times as fast the pass with documents is."""
    pairs = zip(getattr(found[WITHOUT], what), getattr(found[WITH], what), strict=True)
    return statistics.median(without / own for without, own in pairs)


def run(
    size: SizeName = "char-tiny",
    documents: Annotated[
        str, typer.Option(help="Least and largest length of a document, in tokens.")
    ] = "128,256",
    precision: ElementType = Precision.fp32,
    rounds: Rounds = 7,
    threads: Threads = 0,
    bias: Bias = True,
    json_file: JsonFile = None,
) -> None:
    """Time forward and backward of one batch, after comparing each document with itself alone."""
    try:
        shape = parse_size(size)
        lengths = parse_lengths(documents, shape.time)
    except ValueError as error:
        stop(str(error), 2)
    threads = threads or usable_cores()
    load = warn_if_busy(threads)
    ops.set_threads(threads)
    model = Transformer(TransformerConfig(**shape.model(bias)), seed=1)
    model.prepare(precision=precision.value)
    start = draw_starts(shape, lengths)
    batch = make_batch(shape, start)
    try:
        count = verify(model, batch, TOLERANCE[precision.value])
    except ArithmeticError as error:
        stop(str(error), 1)
    say(f"{count} documents have the loss that they have alone")
    plain = Batch(batch.x_BT, batch.y_BT, batch.weights_BT)
    for which in (batch, plain):
        one_pass(model, which, Times())  # the first touches pages
    found = {WITHOUT: Times(), WITH: Times()}
    for _ in range(rounds):
        one_pass(model, plain, found[WITHOUT])
        one_pass(model, batch, found[WITH])
    print(f"{size}: {shape}, {precision.value}, {threads} threads")
    print(f"{count} documents, {seen_share(start):.0%} of the pairs of query and key\n")
    print(table(found))
    document = {"size": size, "precision": precision.value, "load_before": load}
    document |= {"shape": str(shape), "machine": describe(), "threads": threads}
    document |= {"documents": count, "seen_share": seen_share(start)}
    seconds = {name: {"pass_s": t.passes, "attention_s": t.attention} for name, t in found.items()}
    document |= {"times": seconds, "pass_times_as_fast": ratio(found, "passes")}
    write_json(json_file, document | {"attention_times_as_fast": ratio(found, "attention")})


if __name__ == "__main__":
    typer.run(run)

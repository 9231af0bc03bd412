"""Each kernel of a training step beside its bound: ``kernels.py --help``.

What does not live here: the calls (``cases``), how much work one is (``tisslm.ops.cost``).
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from time import perf_counter
from typing import Annotated, Any

import clone  # noqa: F401 (finds tisslm)
import numpy as np
import typer
from bounds import Bounds
from cases import Case, cases, in_double, reduced
from command import ElementType, JsonFile, Rounds, SizeName, Threads
from job import Precision
from machine import describe, say, stop, usable_cores, warn_if_busy, write_json
from sizes import Size, parse_size

from tisslm import ops
from tisslm.errors import ConfigError, TissLMError
from tisslm.ops.cost import UNIT, bound_of, flops, named, nbytes, operations, part_of

#: Relative to the largest element expected. fp32: sums of a few thousand terms are off by a few
#: 1e-6 of that, a term left out or counted twice by far more than 1e-4. The others: results are
#: rounded to 2^-8 (bf16) or 2^-11 (fp16) of themselves, and attention rounds its weights, too.
TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2, "fp16": 2e-3}
TURN_SECONDS = 0.03  # a case's turn in a round is at least so long
BOUND_SECONDS = 0.2


class KernelMismatchError(Exception):
    """A kernel does not compute what its twin does, so its time is worth nothing."""


@dataclass
class Timed:
    """One case and its figures.

    Attributes
    ----------
    case : Case
    work : int
        Operations where multiply-adds are the bound, bytes otherwise.
    bound : str
        "products" or "memory".
    repeats : int
        Calls in one turn.
    seconds : list of float
        Of one call, one figure for each round.
    """

    case: Case
    work: int
    bound: str
    repeats: int = 1
    seconds: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Work per second by the median call, in 1e9: GFLOP/s or GB/s."""
        return self.work / statistics.median(self.seconds) / 1e9


@dataclass(frozen=True)
class Choice:
    """Which calls are to be timed.

    Attributes
    ----------
    size : Size
    precision : str
    pattern : str
        Part of an operation's name or shape; empty for all.
    """

    size: Size
    precision: str
    pattern: str

    def cases(self) -> list[Case]:
        """Make the cases at their whole size."""
        made = cases(self.size, self.precision)
        found = [case for case in made if self.pattern in f"{case.operation} {case.shape}"]
        if not found:
            known = dict.fromkeys(case.operation for case in cases(reduced(self.size)))
            raise ValueError(
                f"--kernel: expected part of a shape or of {', '.join(known)}, got {self.pattern!r}"
            )
        return found


def verify(choice: Choice, operations_used: set[str]) -> dict[str, str]:
    """Hold every operation against its float64 twin, at a reduced size.

    Returns
    -------
    dict of str to str
        Operations that do not take arrays of a low precision, with what they say.

    Raises
    ------
    KernelMismatchError
        Before anything is timed.
    """
    left_out: dict[str, str] = {}
    for case in cases(reduced(choice.size), choice.precision):
        if case.operation not in operations_used:
            continue
        op = operations()[case.operation]
        double = tuple(in_double(v) if isinstance(v, np.ndarray) else v for v in case.arguments)
        try:
            op(*case.arguments)
        except (TypeError, ValueError, TissLMError) as error:
            if choice.precision == "fp32":
                raise
            left_out[case.operation] = str(error)
            continue
        op(*double)
        for place in case.out:
            if case.arguments[place] is not None:
                compare(case, place, double[place], TOLERANCE[choice.precision])
    return left_out


def compare(case: Case, place: int, expected: Any, tolerance: float) -> None:
    """Hold one result against the twin's."""
    found = in_double(case.arguments[place])
    error = np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30)
    if not error <= tolerance:
        raise KernelMismatchError(
            f"{case.operation} {case.shape}: argument {place} is off by {error:.2g} of its largest "
            f"element, expected at most {tolerance:g}. Nothing was timed"
        )


def prepare(case: Case) -> Timed:
    """Warm a case up, and find how many calls fill a turn."""
    op = operations()[case.operation]
    arguments = named(case.operation, case.arguments)
    bound = bound_of(part_of(case.operation))
    count = flops if bound == "products" else nbytes
    timed = Timed(case, count(case.operation, arguments), bound)
    op(*case.arguments)
    seconds = turn(timed)
    timed.repeats = max(1, round(TURN_SECONDS / seconds))
    return timed


def turn(timed: Timed) -> float:
    """Run a case's calls once; return the seconds of one call."""
    op, arguments = operations()[timed.case.operation], timed.case.arguments
    start = perf_counter()
    for _ in range(timed.repeats):
        op(*arguments)
    return (perf_counter() - start) / timed.repeats


@dataclass
class Measured:
    """What came out."""

    choice: Choice
    bounds: Bounds
    all_timed: list[Timed]
    left_out: dict[str, str]

    def of_bound(self, timed: Timed) -> float:
        """Return the share of what is possible."""
        return timed.rate / self.bounds.limit(timed.bound, self.choice.precision)


def measure(choice: Choice, threads: int, rounds: int) -> Measured:
    """Verify, then time every case and the bounds, once in each round."""
    chosen = choice.cases()
    left_out = verify(choice, {case.operation for case in chosen})
    bounds = Bounds(threads)
    all_timed = [prepare(case) for case in chosen if case.operation not in left_out]
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}, {len(all_timed)} calls")
        bounds.measure(BOUND_SECONDS)
        for timed in all_timed:
            timed.seconds.append(turn(timed))
    return Measured(choice, bounds, all_timed, left_out)


def as_json(measured: Measured) -> dict[str, Any]:
    """Return the figures as the document of ``--json``."""
    return {
        "precision": measured.choice.precision,
        "machine": describe(),
        "engine": ops.engine(),
        **measured.bounds.as_json(),
        "results": [
            {
                "kernel": timed.case.operation,
                "shape": timed.case.shape,
                "seconds": statistics.median(timed.seconds),
                "seconds_rounds": timed.seconds,
                "unit": UNIT[timed.bound],
                "rate": timed.rate,
                "of_bound": measured.of_bound(timed),
            }
            for timed in measured.all_timed
        ],
        "left_out": measured.left_out,
    }


def table(measured: Measured) -> str:
    """Lay the results out for reading."""
    lines = [*measured.bounds.lines(), ""]
    lines.append(f"{'kernel':26}{'shape':30}{'us':>10}{'rate':>10}  {'unit':8}{'of bound':>9}")
    for timed in measured.all_timed:
        lines.append(
            f"{timed.case.operation:26}{timed.case.shape:30}"
            f"{statistics.median(timed.seconds) * 1e6:10.1f}{timed.rate:10.1f}  "
            f"{UNIT[timed.bound]:8}{measured.of_bound(timed):9.0%}"
        )
    lines += ["", "above 100 % of memory's bound: the arrays stay in a cache between two calls"]
    lines += [f"left out: {name} ({reason})" for name, reason in measured.left_out.items()]
    return "\n".join(lines)


def run(
    size: SizeName = "char-tiny",
    precision: ElementType = Precision.fp32,
    kernel: Annotated[str, typer.Option(help="Only those whose name or shape contains this.")] = "",
    rounds: Rounds = 5,
    threads: Threads = 0,
    json_file: JsonFile = None,
) -> None:
    """Verify each kernel against its twin, then time it beside what bounds it."""
    threads = threads or usable_cores()
    load = warn_if_busy(threads)
    try:
        choice = Choice(parse_size(size), precision.value, kernel)
        ops.set_threads(threads)
        measured = measure(choice, threads, rounds)
    except (ValueError, ConfigError) as error:
        stop(str(error), 2)
    except KernelMismatchError as error:
        stop(str(error), 1)
    print(f"{size}: {choice.size}, {precision.value}, {threads} threads, {rounds} rounds")
    print(table(measured))
    document = {"size": size, "threads": threads, "rounds": rounds, "load_before": load}
    write_json(json_file, document | as_json(measured))


if __name__ == "__main__":
    typer.run(run)

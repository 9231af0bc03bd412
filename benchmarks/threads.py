"""Whole training steps on 1, 2, ... threads: ``threads.py --help``.

What does not live here: the measurement (``turns``), the step (``sides/ours.py``), more threads
than there are cores (``simulated``).
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Annotated, Any

import simulated
import typer
from command import Bias, ElementType, JsonFile, Rounds, SizeName, Steps, attempt
from job import OURS, Contestant, Job, Precision
from machine import MAX_THREADS, describe, stop, usable_cores, warn_if_busy, write_json
from sizes import parse_size
from turns import Measured, measure

EXPECTED_AT = (16, 64)  # threads of the derived expectations


def parse_threads(text: str, cores: int) -> list[int]:
    """Turn ``1,2,4`` into counts; an empty text means 1, 2, 4, ... and all usable cores.

    Raises
    ------
    ValueError
        With one sentence that says what was expected.
    """
    if not text:
        doubled = [2**i for i in range(cores.bit_length()) if 2**i <= cores]
        return sorted({*doubled, cores})
    counts = ascending(text, MAX_THREADS)
    if not counts or counts[0] != 1:
        raise ValueError(
            f"--threads: expected 1 and more counts up to {MAX_THREADS} in ascending order, "
            f"comma-separated, got {text!r}"
        )
    return counts


def parse_simulated(text: str) -> list[int]:
    """Turn ``16,64`` into counts.

    Raises
    ------
    ValueError
        With one sentence that says what was expected.
    """
    counts = ascending(text, MAX_THREADS)
    if not counts or counts[0] < 2:
        raise ValueError(
            f"--simulate: expected counts from 2 to {MAX_THREADS} in ascending order, "
            f"comma-separated, got {text!r}"
        )
    return counts


def ascending(text: str, most: int) -> list[int]:
    """Turn ``1,2,4`` into counts; none if they do not ascend, or one is no count up to most."""
    fields = [part.strip() for part in text.split(",")]
    counts = [int(part) for part in fields if part.isdecimal() and 1 <= int(part) <= most]
    return counts if len(counts) == len(fields) and counts == sorted(set(counts)) else []


def serial_share(seconds: dict[int, float]) -> float | None:
    """Fit Amdahl's law, ``t(n) = t(1) (s + (1 - s) / n)``, by least squares.

    Parameters
    ----------
    seconds : dict of int to float
        Of one update, by threads; 1 is among them.

    Returns
    -------
    float or None
        s; None where 1 is the only count.

    References
    ----------
    Amdahl, "Validity of the single processor approach to achieving large scale computing
    capabilities", AFIPS 1967.
    """
    points = [(took / seconds[1] - 1 / n, 1 - 1 / n) for n, took in seconds.items() if n > 1]
    if not points:
        return None
    return sum(y * x for y, x in points) / sum(x * x for _, x in points)


def speed_up(share: float, threads: int) -> float:
    """Return what Amdahl's law expects of so many threads; the share is taken within 0 and 1."""
    share = min(max(share, 0.0), 1.0)
    return 1 / (share + (1 - share) / threads)


def name_of(threads: int) -> str:
    """Return a side's name."""
    return f"{threads} thread{'s' if threads > 1 else ''}"


def figures(measured: Measured) -> dict[int, dict[str, Any]]:
    """Return tokens per second, speed-up and efficiency by threads."""
    rates = {
        one.threads: statistics.median(measured.tokens_per_s(one.who)) for one in measured.timed
    }
    return {
        n: {
            "threads": n,
            "tokens_per_s": rate,
            "tokens_per_s_rounds": measured.tokens_per_s(name_of(n)),
            "speed_up": rate / rates[1],
            "efficiency": rate / rates[1] / n,
        }
        for n, rate in rates.items()
    }


def as_json(measured: Measured, share: float | None) -> dict[str, Any]:
    """Return the figures as the document of ``--json``."""
    return {
        "shape": str(measured.job.size),
        "machine": describe(),
        "steps": measured.steps,
        "rounds": measured.job.rounds,
        "losses": measured.losses[name_of(1)],
        "results": list(figures(measured).values()),
        "serial_share": share,
        "derived_speed_up": {} if share is None else {n: speed_up(share, n) for n in EXPECTED_AT},
    }


def table(measured: Measured, share: float | None) -> str:
    """Lay the results out for reading."""
    lines = [
        f"{measured.job.rounds} rounds of {measured.steps} updates; losses equal to the bit",
        "",
        f"{'threads':>8}{'tokens/s':>12}{'slowest':>12}{'fastest':>12}{'speed-up':>10}{'efficiency':>12}",
    ]
    for n, row in figures(measured).items():
        rounds = row["tokens_per_s_rounds"]
        lines.append(
            f"{n:8}{row['tokens_per_s']:12.1f}{min(rounds):12.1f}{max(rounds):12.1f}"
            f"{row['speed_up']:10.2f}{row['efficiency']:12.0%}"
        )
    if share is not None:
        lines += ["", f"serial share of one thread's time, fitted by Amdahl's law: {share:.2%}"]
        lines += [
            f"derived from it, not measured: {speed_up(share, n):.1f} times as fast on {n} threads"
            for n in EXPECTED_AT
            if n > max(figures(measured))
        ]
    return "\n".join(lines)


def run(
    size: SizeName = "char-tiny",
    precision: ElementType = Precision.fp32,
    threads: Annotated[
        str, typer.Option(help="Counts such as 1,2,4; empty: 1, 2, 4, ... and all usable cores.")
    ] = "",
    steps: Steps = 0,
    rounds: Rounds = 5,
    bias: Bias = True,
    json_file: JsonFile = None,
    simulate: Annotated[
        str,
        typer.Option(help="Counts such as 16,64 to simulate from stamps of these cores' threads."),
    ] = "",
    barrier: Annotated[
        float,
        typer.Option(min=0, help="us that a loop costs on 2 threads beside its work; 0: measured."),
    ] = 0.0,
    bandwidth: Annotated[
        float, typer.Option(min=0, help="GB/s of memory, of all simulated threads; 0: no bound.")
    ] = 0.0,
) -> None:
    """Time a step on several numbers of threads, after comparing the losses to the bit."""
    if simulate:
        simulated_run(size, precision, simulate, rounds, bias, barrier, bandwidth, json_file)
        return
    try:
        counts = parse_threads(threads, usable_cores())
        sides = tuple(Contestant(name_of(n), OURS, n, precision.value) for n in counts)
        job = Job(parse_size(size), bias, sides, steps=steps, rounds=rounds)
    except ValueError as error:
        stop(str(error), 2)
    load = warn_if_busy(max(counts))
    measured = attempt(lambda: measure(job))
    rows = figures(measured).items()
    # a count beyond the cores says nothing about the law
    by_threads = {n: 1 / row["tokens_per_s"] for n, row in rows if n <= usable_cores()}
    share = serial_share(by_threads)
    print(f"{size}: {job.size}, {precision.value}")
    print(table(measured, share))
    document = {"size": size, "precision": precision.value, "load_before": load}
    write_json(json_file, document | as_json(measured, share))


def simulated_run(
    size: str,
    precision: Precision,
    counts: str,
    rounds: int,
    bias: bool,
    barrier: float,
    bandwidth: float,
    json_file: Path | None,
) -> None:
    """Simulate a step on more threads than there are cores, and check it on 1 and 2."""
    try:
        shape, many = parse_size(size), parse_simulated(counts)
    except ValueError as error:
        stop(str(error), 2)
    load, given = warn_if_busy(1), barrier * 1e-6 if barrier else None
    found = attempt(
        lambda: simulated.measure(
            shape, bias, precision.value, many, rounds, given, bandwidth * 1e9
        )
    )
    print(f"{size}: {shape}, {precision.value}")
    print(simulated.table(found))
    document = {"size": size, "precision": precision.value, "load_before": load}
    write_json(json_file, document | simulated.as_json(found))


if __name__ == "__main__":
    typer.run(run)

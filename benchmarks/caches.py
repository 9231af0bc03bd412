"""Misses of the caches of named machines, on any machine: ``caches.py --help``.

Products and attention of the level avx2 run under valgrind's cachegrind, whose caches are those of
a machine by name; products are blocked for these. Beside each figure stands the least that the
blocking allows (docs/kernels.md). A simulator has no prefetches and no neighbours: it counts the
lines that must come, and says nothing about time.

What does not live here: the calls (``caches.c``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import clone  # noqa: F401 (finds tisslm)
import typer
from command import JsonFile
from machine import say, stop, write_json

from tisslm.ops.building import COMPILE, level_flags

FOLDER = Path(__file__).resolve().parent
KERNELS = FOLDER.parent / "tisslm" / "_kernels" / "c"
LINE = 16  # floats
MR, NR, TILE = 6, 16, 64  # of the level avx2: a product's tile, and attention's
MOST_BLOCKS = 32  # of MR rows in a chunk


@dataclass(frozen=True)
class Machine:
    """The first and the second level of a core: bytes and ways."""

    level_1: int
    ways_1: int
    level_2: int
    ways_2: int

    def options(self) -> list[str]:
        """Return cachegrind's options; its last level is the second one."""
        return [
            f"--D1={self.level_1},{self.ways_1},64",
            f"--LL={self.level_2},{self.ways_2},64",
        ]


MACHINES = {
    "zen3": Machine(32768, 8, 524288, 8),
    "skylake": Machine(32768, 8, 262144, 4),
    "cascade-lake": Machine(32768, 8, 1048576, 16),
    "ice-lake": Machine(49152, 12, 1310720, 20),
}


@dataclass(frozen=True)
class Work:
    """One call: a product C = A B of M rows, N columns and K words, or attention of T, H and D.

    Attributes
    ----------
    kind : str
        "product" or "attention".
    form : str
        "forward", "input" or "weight"; of attention "forward" or "backward".
    sizes : tuple of int
    """

    kind: str
    form: str
    sizes: tuple[int, int, int]

    @property
    def multiply_adds(self) -> int:
        """Count what has to be done: of attention, the causal half."""
        x, y, z = self.sizes
        if self.kind == "product":
            return x * y * z
        return (2 if self.form == "forward" else 4) * x * x * y * z // 2

    def least(self, machine: Machine) -> tuple[float, float]:
        """Return the lines that must come to each level, for 1000 multiply-adds."""
        if self.kind == "product":
            return least_of_product(self.form, *self.sizes, machine)
        # what comes for a pair of tiles, by what is multiplied there: keys and values, or queries
        # (as they are and turned), their output's gradient and their own
        return 1000 / TILE / LINE, 0.0


def pieces(n: int, most: int) -> int:
    """Count the pieces of at most so many."""
    return -(-n // most)


def equal(n: int, most: int, multiple: int) -> int:
    """Return the size of equal pieces, as ``_kernels/c/blocking.inc`` does."""
    return pieces(pieces(n, pieces(n, most)), multiple) * multiple


def least_of_product(form: str, m: int, n: int, k: int, machine: Machine) -> tuple[float, float]:
    """Count the lines of a product in blocks, if each comes as seldom as the blocks allow."""
    parts = max(1, n // (384 if form == "weight" else 192))
    floats = machine.level_2 // 4
    kc = equal(k, machine.level_1 // (4 * (NR + MR)) // 4 * 4, 4)
    nc = equal(pieces(n, parts), floats // 2 // kc // NR * NR, NR)
    rows = min(MOST_BLOCKS, max(4, floats // 4 // (kc * MR) // 4 * 4)) * MR
    blocks_of_k, blocks_of_n = pieces(k, kc), parts * pieces(pieces(n, parts), nc)
    a, b, c = m * k, k * n, m * n
    packed_a = 2 * a * blocks_of_n if form == "weight" else 0
    first = a * pieces(n, NR) + b * pieces(m, rows) + c * blocks_of_k + 2 * b + packed_a
    second = a * blocks_of_n + b + c * blocks_of_k
    return tuple(1000 * lines / LINE / (m * n * k) for lines in (first, second))  # type: ignore[return-value]


def works(width: int, rows: int, time: int) -> Iterator[Work]:
    """Name the products of a block and its attention, of heads of 64 channels."""
    for outputs, inputs in ((3, 1), (1, 1), (4, 1), (1, 4)):
        o, c = outputs * width, inputs * width
        yield Work("product", "forward", (rows, o, c))
        yield Work("product", "input", (rows, c, o))
        yield Work("product", "weight", (o, c, rows))
    for form in ("forward", "backward"):
        yield Work("attention", form, (time, 1, TILE))


def counts(text: str) -> dict[str, int]:
    """Return the totals of a file of cachegrind's, by the names of the events.

    Raises
    ------
    ValueError
        If it is none.
    """
    found = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    names, totals = found.get("events", "").split(), found.get("summary", "").split()
    if not names or len(names) != len(totals):
        raise ValueError("cachegrind's file: expected one line of events and one summary of them")
    return dict(zip(names, map(int, totals), strict=True))


@dataclass(frozen=True)
class Misses:
    """What one call missed, for 1000 multiply-adds, beside the least."""

    first: float
    second: float
    least_first: float
    least_second: float


def of_one_call(before: dict[str, int], after: dict[str, int], work: Work) -> tuple[float, float]:
    """Return what the last call missed in each level, for 1000 multiply-adds."""
    more = {name: after[name] - before[name] for name in before}
    scale = 1000 / work.multiply_adds
    return (more["D1mr"] + more["D1mw"]) * scale, (more["DLmr"] + more["DLmw"]) * scale


def compile_driver(folder: Path) -> Path:
    """Build the driver with the level's kernels; ends with a sentence if there is no compiler."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
    level = KERNELS / "levels" / "avx2.c"
    flags = [*COMPILE, *level_flags(level.read_text()), f"-I{KERNELS}"]
    driver = folder / "caches"
    command = [*compiler, *flags, str(FOLDER / "caches.c"), str(level), "-o", str(driver), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        stop(f"the driver cannot be compiled: {done.stderr.strip()[-500:]}", 1)
    return driver


def simulate(driver: Path, work: Work, machine: Machine) -> Misses:
    """Call twice and once; the difference is one call with whatever a call before it leaves."""
    found = []
    for times in (1, 2):
        file = driver.with_name(f"{times}.out")
        called = [str(driver), str(times), str(machine.level_1), str(machine.level_2)]
        called += [work.kind, work.form, *map(str, work.sizes)]
        tool = ["valgrind", "--tool=cachegrind", "--cache-sim=yes", *machine.options()]
        command = [*tool, f"--cachegrind-out-file={file}", *called]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            stop(f"valgrind failed: {done.stderr.strip()[-500:]}", 1)
        found.append(counts(file.read_text()))
    return Misses(*of_one_call(*found, work), *work.least(machine))


def line(work: Work, misses: Misses) -> str:
    """Lay one call out for reading."""
    sizes = "x".join(map(str, work.sizes))
    first, second = misses.first / misses.least_first, misses.least_second
    times = f"{misses.second / second:8.2f}" if second else f"{'':8}"
    return (
        f"{work.kind:10}{work.form:10}{sizes:16}{misses.first:8.2f}{misses.least_first:8.2f}"
        f"{first:8.2f}   {misses.second:8.3f}{second:8.3f}{times}"
    )


def run(
    machine: Annotated[str, typer.Option(help=", ".join(MACHINES))] = "zen3",
    width: Annotated[int, typer.Option(min=64, help="C of a block.")] = 384,
    rows: Annotated[int, typer.Option(min=1, help="Rows of the products.")] = 384,
    time: Annotated[int, typer.Option(min=1, help="T of attention.")] = 256,
    kernel: Annotated[str, typer.Option(help="Only those whose kind and form contain this.")] = "",
    json_file: JsonFile = None,
) -> None:
    """Count the misses of products and attention at the level avx2, in a simulated machine."""
    if machine not in MACHINES:
        stop(f"--machine: expected one of {', '.join(MACHINES)}, got {machine!r}", 2)
    chosen = [w for w in works(width, rows, time) if kernel in f"{w.kind} {w.form}"]
    if not chosen:
        stop(f"--kernel: expected part of a name such as 'product weight', got {kernel!r}", 2)
    if shutil.which("valgrind") is None:
        stop("valgrind is not installed; on Debian: apt install valgrind", 1)
    results = []
    with tempfile.TemporaryDirectory(prefix="caches-") as folder:
        say("compiling the driver")
        driver = compile_driver(Path(folder))
        print(f"{machine}, lines for 1000 multiply-adds: missed, least, ratio")
        print(f"{'':36}{'first level':>24}   {'second level':>24}")
        for work in chosen:
            misses = simulate(driver, work, MACHINES[machine])
            print(line(work, misses), flush=True)
            results.append(asdict(work) | asdict(misses))
    write_json(json_file, {"machine": machine, "results": results})


if __name__ == "__main__":
    typer.run(run)

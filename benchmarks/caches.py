"""Misses of the caches of named machines, on any machine: ``caches.py --help``.

Products and attention of the level avx2 run under valgrind's cachegrind, whose caches are those of
a machine by name; products are blocked for these. Beside each figure stands the least that any
blocking allows in these caches (docs/kernels.md). A simulator has no prefetches and no neighbours:
it counts the lines that must come, and says nothing about time.

What does not live here: the calls (``caches.c``).
"""

from __future__ import annotations

import math
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
ANY = 10**6  # more panels than any cache holds
LATER = 4  # times as long takes a line from behind the second level (Zen 3: 46 cycles and 12)


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
    name : str
        Of a product the map that it belongs to.
    form : str
        "forward", "input" or "weight"; of attention "forward" or "backward".
    sizes : tuple of int
    """

    kind: str
    name: str
    form: str
    sizes: tuple[int, int, int]

    @property
    def multiply_adds(self) -> int:
        """Count what has to be done: of attention, the causal half."""
        x, y, z = self.sizes
        if self.kind == "product":
            return x * y * z
        return (2 if self.form == "forward" else 4) * x * x * y * z // 2

    def least(self, machine: Machine, panels: int = ANY) -> tuple[float, float]:
        """Return the lines that must come to each level, for 1000 multiply-adds."""
        if self.kind == "product":
            return least_of_product(self.form, *self.sizes, machine, panels)
        # what comes for a pair of tiles, by what is multiplied there: keys and values, or queries
        # (as they are and turned), their output's gradient and their own
        return 1000 / TILE / LINE, 0.0


def pieces(n: int, most: int) -> int:
    """Count the pieces of at most so many."""
    return -(-n // most)


def cuts(n: int, most: int, multiple: int) -> list[int]:
    """Return the sizes of equal pieces of n, each a multiple, that are at most so large."""
    counted = range(pieces(n, most), pieces(n, multiple) + 1)
    return sorted({pieces(pieces(n, count), multiple) * multiple for count in counted})


@dataclass(frozen=True)
class Blocks:
    """Sizes that a product is cut to.

    Attributes
    ----------
    words, group : int
        Of a panel, and how many panels rows of A meet while all are in the first level.
    deep, wide : int
        Words and columns of a block of B, which stays in the second level.
    high : int
        Rows of a chunk.
    """

    words: int
    group: int
    deep: int
    wide: int
    high: int

    def lines(self, form: str, m: int, n: int, k: int) -> tuple[float, float]:
        """Count what comes to each level, for 1000 multiply-adds."""
        a, b, c = m * k, k * n, m * n
        blocks = pieces(n, self.wide)
        groups = blocks * pieces(pieces(min(n, self.wide), NR), self.group)
        packed_a = 2 * a * blocks if form == "weight" else 0
        first = a * groups + b * pieces(m, self.high) + c * pieces(k, self.words) + 2 * b + packed_a
        second = a * blocks + b + c * pieces(k, self.deep)
        scale = 1000 / LINE / (m * n * k)
        return first * scale, second * scale


def least_of_product(
    form: str, m: int, n: int, k: int, machine: Machine, panels: int = ANY
) -> tuple[float, float]:
    """Count the lines of the blocks that cost least, of all that the caches hold.

    Rows of A meet at most so many panels one after the other.

    Between two uses of a line, a level sees what else is used there: of the first, a group of
    panels, MR rows of A and of C; of the second, a block of B and what a chunk has of A and C, with
    a copy of the words at work where A is packed.
    """
    first, second = machine.level_1 // 4, machine.level_2 // 4
    best = (math.inf, (0.0, 0.0))
    for words in cuts(k, min(k, first // (NR + MR)), 4):
        room = first // (words + MR) - MR  # columns
        if room < NR:
            continue
        for depth in range(1, pieces(k, words) + 1):
            deep = min(depth * words, pieces(k, 4) * 4)
            for wide in cuts(n, second // deep // NR * NR or NR, NR):
                beside = wide + deep + (words if form == "weight" else 0)
                high = (second - wide * deep) // beside // MR * MR
                if high < MR:
                    continue
                blocks = Blocks(words, min(panels, room // NR), deep, wide, high)
                lines = blocks.lines(form, m, n, k)
                best = min(best, (lines[0] + LATER * lines[1], lines))
    return best[1]


def works(width: int, rows: int, vocabulary: int, time: int) -> Iterator[Work]:
    """Name the products of a block and of the head, and attention of heads of 64 channels."""
    maps = {
        "q, k, v": (3 * width, width, rows),
        "output": (width, width, rows),
        "MLP up": (4 * width, width, rows),
        "MLP down": (width, 4 * width, rows),
        "head": (vocabulary, width, 2 * rows),
    }
    for name, (o, c, n) in maps.items():
        yield Work("product", name, "forward", (n, o, c))
        yield Work("product", name, "input", (n, c, o))
        yield Work("product", name, "weight", (o, c, n))
    for form in ("forward", "backward"):
        yield Work("attention", "", form, (time, 1, TILE))


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


def simulate(driver: Path, work: Work, machine: Machine, panels: int = ANY) -> Misses:
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
    return Misses(*of_one_call(*found, work), *work.least(machine, panels))


def line(work: Work, misses: Misses) -> str:
    """Lay one call out for reading."""
    sizes = "x".join(map(str, work.sizes))
    first, second = misses.first / misses.least_first, misses.least_second
    times = f"{misses.second / second:8.2f}" if second else f"{'':8}"
    return (
        f"{work.kind:10}{work.name:9}{work.form:9}{sizes:16}{misses.first:8.2f}{misses.least_first:8.2f}"
        f"{first:8.2f}   {misses.second:8.3f}{second:8.3f}{times}"
    )


def run(
    machine: Annotated[str, typer.Option(help=", ".join(MACHINES))] = "zen3",
    width: Annotated[int, typer.Option(min=64, help="C of a block.")] = 384,
    rows: Annotated[
        int, typer.Option(min=1, help="Rows of the products; the head's are twice as many.")
    ] = 1024,
    vocabulary: Annotated[int, typer.Option(min=1, help="V of the head.")] = 65,
    time: Annotated[int, typer.Option(min=1, help="T of attention.")] = 256,
    panels: Annotated[
        int, typer.Option(min=1, help="The least is for rows of A that meet so many at most.")
    ] = ANY,
    kernel: Annotated[
        str, typer.Option(help="Only those whose kind, name and form contain this.")
    ] = "",
    json_file: JsonFile = None,
) -> None:
    """Count the misses of products and attention at the level avx2, in a simulated machine."""
    if machine not in MACHINES:
        stop(f"--machine: expected one of {', '.join(MACHINES)}, got {machine!r}", 2)
    chosen = [
        w for w in works(width, rows, vocabulary, time) if kernel in f"{w.kind} {w.name} {w.form}"
    ]
    if not chosen:
        stop(f"--kernel: expected part of a name such as 'product weight', got {kernel!r}", 2)
    if shutil.which("valgrind") is None:
        stop("valgrind is not installed; on Debian: apt install valgrind", 1)
    results = []
    with tempfile.TemporaryDirectory(prefix="caches-") as folder:
        say("compiling the driver")
        driver = compile_driver(Path(folder))
        print(f"{machine}, lines for 1000 multiply-adds: missed, least, ratio")
        print(f"{'':44}{'first level':>24}   {'second level':>24}")
        for work in chosen:
            misses = simulate(driver, work, MACHINES[machine], panels)
            print(line(work, misses), flush=True)
            results.append(asdict(work) | asdict(misses))
    write_json(json_file, {"machine": machine, "results": results})


if __name__ == "__main__":
    typer.run(run)

"""The inner loop of a product keeps its sums in registers: the assembly names no stack there.

A tile is as large as the registers of a level allow, so one that the compiler needs for something
else would be stored and loaded for every word of k, and no test of results would tell. Nor would
one of the loops that measure the processor's peak, which products are compared with.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tisslm.ops.building import COMPILE, level_flags

C = Path(__file__).parents[2] / "tisslm" / "_kernels" / "c"
COMPILER = "aarch64-linux-gnu-gcc"
#: A level's tile of MR rows and two vectors: products in its loop.
LEVELS = {"neon": {"fma": "fmla"}, "neon_bf16": {"fma": "fmla", "dot": "bfdot"}}
PRODUCTS = 24


def assembly(level: str, tiles: list[str]) -> dict[str, list[str]]:
    """Compile the tiles of a level, its peak, and nothing else; return the lines of each."""
    products, blocking, _ = (C / "gemm.inc").read_text().partition('#include "blocking.inc"')
    assert blocking, "the tiles come before what blocks a product"
    kept = ", ".join(f"NAME({tile})" for tile in tiles)
    only = f'#include "vec.inc"\n#include "peak.inc"\n#define NR (2 * VL)\n{products}\n'
    only += f"void *NAME(kept)[] = {{{kept}}};"
    source = (C / "levels" / f"{level}.c").read_text()
    text = source.replace("../levels.h", "levels.h").replace('#include "../level.inc"', only)
    command = [COMPILER, *COMPILE, *level_flags(source), "-w", "-fPIC", f"-I{C}"]
    command += ["-S", "-x", "c", "-", "-o", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    found = {}
    for tile in tiles:
        body = re.search(rf"^{tile}_{level}:$(.*?)^\t\.size", done.stdout, re.DOTALL | re.MULTILINE)
        assert body, tile
        found[tile] = body[1].splitlines()
    return found


def innermost_loops(lines: list[str]) -> list[list[str]]:
    """Return what lies between a label and a branch back to it, with no such loop inside."""
    labels, loops = {}, []
    for i, line in enumerate(lines):
        if label := re.match(r"(\.L\w+):", line):
            labels[label[1]] = i
        branch = re.match(r"\t(?:b\.?\w*|cbn?z|tbn?z)\t(?:.*, )?(\.L\w+)$", line)
        if branch and branch[1] in labels:
            loops.append((labels[branch[1]], i))
    inner = [a for a in loops if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    return [lines[first : last + 1] for first, last in inner]


@pytest.mark.skipif(
    shutil.which(COMPILER) is None, reason=f"there is no {COMPILER} to write assembly"
)
@pytest.mark.parametrize("level", LEVELS)
def test_the_loops_of_products_and_of_the_peak_touch_no_stack(
    level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", COMPILER)
    loops_of = ("row_whole", "column_whole", "flops")
    tiles = [f"{way}_{loop}" for way in LEVELS[level] for loop in loops_of]
    for tile, lines in assembly(level, tiles).items():
        product = LEVELS[level][tile.partition("_")[0]]
        loops = [
            loop
            for loop in innermost_loops(lines)
            if sum(f"\t{product}\t" in line for line in loop) == PRODUCTS
        ]
        assert loops, tile
        for loop in loops:
            assert not [line for line in loop if "[sp" in line], tile

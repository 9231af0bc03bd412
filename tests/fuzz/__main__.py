"""``make fuzz``: read changed files of every kind, and count what becomes of them."""

from __future__ import annotations

import argparse
import sys

from fuzz.running import run
from fuzz.targets import TARGETS


def main() -> int:
    """Return 0 if every case ended in an error of TissLM's or was accepted, else 1."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="cases of each target")
    parser.add_argument("--seed", type=int, default=1, help="another one gives other cases")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument(
        "--target", action="append", choices=sorted(TARGETS), help="only this; may be given again"
    )
    given = parser.parse_args()
    print(f"{'target':15}{'cases':>7}{'accepted':>10}{'refused':>9}{'failed':>8}{'slowest':>10}"
          f"{'memory':>11}")  # fmt: skip
    good = True
    for target in given.target or TARGETS:
        found = run(target, given.count, given.seed, given.first)
        print(
            f"{target:15}{found.count:7}{found.accepted:10}{found.refused:9}"
            f"{len(found.failures):8}{found.slowest:8.2f} s{found.most / 2**20:7.0f} MiB",
            flush=True,
        )
        for number, failure in found.failures.items():
            print(f"\n{target}, seed {given.seed}, case {number}: {failure.strip()}")
        good = good and not found.failures
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

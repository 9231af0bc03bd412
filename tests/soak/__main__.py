"""``make soak``: kill runs for ten minutes, and look for growth over 10^5 steps.

``python -m soak --ranks 2``, with ``tests`` in Python's path: kill ranks of a launched run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from soak import growth, kills, ranks

STEPS = 110_000


def main() -> int:
    """Return 0 if all is as it should be, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="of killing")
    parser.add_argument("--steps", type=int, default=STEPS, help="of looking for growth")
    parser.add_argument("--seed", type=int, default=1, help="of lifetimes and signals")
    parser.add_argument("--ranks", type=int, default=0, help="kill so many ranks, and do no more")
    parser.add_argument("--kills", type=int, default=30, help="of ranks")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tisslm-soak-") as name:
        if given.ranks:
            return 0 if ranks.soak(Path(name), given.ranks, given.kills, given.seed) else 1
        good = kills.soak(Path(name), given.seconds, given.seed)
        if given.steps:
            text, steady = growth.report(growth.train(Path(name), given.steps, looks=11, threads=2))
            print(text)
            good = good and steady
    print("passed" if good else "FAILED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

"""Whole trainings in which a rank comes to grief: each must end soon, with a code, and its name.

``make faults``, as root for those on several hosts. What does not live here: random kills, many of
them (``python -m soak --ranks 2``), and single calls (``plugins/tisslm-mpi/tests``).
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from namespaces import hosts, lacking, link, write_agent
from soak.faults.plugin import FAULTS
from soak.faults.starting import RANKS, WAYS, Place
from soak.faults.striking import CUT, Ending, prepare, strike, train_whole

#: Faults and the ranks that they strike.
CASES = [*((fault, rank) for fault in FAULTS for rank in (1, 0)), (CUT, 1), (CUT, 0)]

#: Of each host's link; far more than a small model needs.
MBIT = 1000.0


def main() -> int:
    """Return 0 if every training has ended as it should, and gone on to the same files; else 1."""
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    choices = {"way": [way.name for way in WAYS], "fault": [*FAULTS, CUT], "rank": [0, 1]}
    for name, known in choices.items():
        parser.add_argument(
            f"--{name}",
            action="append",
            type=type(known[0]),
            choices=known,
            help="only this; may be given again",
        )
    parser.add_argument("--json", type=Path, help="write all that was found to this file")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that hosts and ranks end, too
    ways = [way for way in WAYS if given.way is None or way.name in given.way]
    cases = [
        (fault, rank)
        for fault, rank in CASES
        if (given.fault is None or fault in given.fault)
        and (given.rank is None or rank in given.rank)
    ]
    found: list[Ending] = []
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="tisslm-faults-")))
        prepare(folder)
        place, whole = Place(folder), None
        for way in ways:
            if why := way.lacks or (way.several and lacking()):
                print(f"{way.name}: left out: {why}", flush=True)
                continue
            if way.several and "here" in place.hosts:
                names = opened.enter_context(hosts(RANKS, MBIT))
                place = Place(folder, names, write_agent(folder), link)
            whole = whole or train_whole(way, place)
            for fault, rank in cases:
                if fault == CUT and not way.several:
                    continue
                found.append(strike(way, fault, rank, place, whole))
                print(line_of(found[-1]), flush=True)
                if given.json is not None:
                    given.json.write_text(json.dumps([one.as_json() for one in found], indent=1))
    print("passed" if found and not any(one.wrong for one in found) else "FAILED")
    return 0 if found and not any(one.wrong for one in found) else 1


def line_of(one: Ending) -> str:
    """Lay out an ending for reading."""
    wrong = "; ".join(one.wrong) or "the same files afterwards"
    return (
        f"| {one.way:17} | {one.fault:13} | {one.rank} | {one.seconds:4.1f} s | "
        f"{one.all_seconds:4.1f} s | {one.code:3} | {wrong} | {one.said}"
    )


if __name__ == "__main__":
    sys.exit(main())

"""The measurement itself: start the sides, hold them to the same losses, time them in turns.

What does not live here: the command line, the printed table, what a side computes.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from job import OURS, Contestant, Job
from machine import say
from protocol import Side, SideFailedError, UnavailableError

__all__ = ["LossMismatchError", "Measured", "measure", "measure_memory"]

VERIFIED_UPDATES = 3  # the second and third loss also tell of gradients, clip and AdamW
ROUND_SECONDS = 3.0  # a round of the slowest side, where the user names no number of steps
PAUSE_SECONDS = 0.3  # idle threads of the side before spin for a while
PEAK_SECONDS = 0.3
CHOICE_TURNS = 3  # short turns of each peer, of which the best one counts


class LossMismatchError(Exception):
    """Two sides do not compute the same thing, so their times must not be compared."""


@dataclass
class Measured:
    """What came out.

    Attributes
    ----------
    job : Job
    steps : int
        Updates in each round.
    seconds : dict of str to list of float
        By side, one figure for each round.
    losses : dict of str to list of float
        By side, the verified updates'.
    memory : dict of str to dict
        By side: ``import_rss_bytes``, ``peak_rss_bytes``.
    peaks : dict of str to list of float
        By precision ("fp32", and "bf16" where there are such instructions), GFLOP/s, one figure
        for each round.
    about : dict of str to dict
        By side, versions and settings.
    left_out : dict of str to str
        Peers that could not run, with the reason.
    not_chosen : dict of str to float
        Peers that were slower in the warm-up, with their tokens per second there.
    """

    job: Job
    steps: int = 0
    seconds: dict[str, list[float]] = field(default_factory=dict)
    losses: dict[str, list[float]] = field(default_factory=dict)
    memory: dict[str, dict[str, int]] = field(default_factory=dict)
    peaks: dict[str, list[float]] = field(default_factory=dict)
    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    not_chosen: dict[str, float] = field(default_factory=dict)

    @property
    def timed(self) -> list[Contestant]:
        """The sides that have figures, in their order."""
        return [one for one in self.job.contestants if one.who in self.seconds]

    def tokens_per_s(self, who: str) -> list[float]:
        """Return each round's rate."""
        return [self.steps * self.job.size.tokens / s for s in self.seconds[who]]

    def gflops(self, who: str) -> float:
        """Return the median rate of counted operations, in GFLOP/s."""
        rate = statistics.median(self.tokens_per_s(who))
        return rate * self.job.size.flops_per_token(self.job.bias) / 1e9

    def peak(self, precision: str) -> float:
        """Return the best peak of the run: of that precision, or fp32's where it has none."""
        return max(self._peaks(precision))

    def of_peak(self, one: Contestant) -> float:
        """Return the median over the rounds of the share of the peak that the round had.

        A shared machine's speed changes from round to round, and both figures with it.
        """
        work = self.job.size.flops_per_token(self.job.bias) / 1e9
        rates = [work * rate for rate in self.tokens_per_s(one.who)]
        pairs = zip(rates, self._peaks(one.precision), strict=True)
        return statistics.median(rate / peak for rate, peak in pairs)

    def _peaks(self, precision: str) -> list[float]:
        return self.peaks.get(precision) or self.peaks["fp32"]


def measure(job: Job, *, choose_peer: bool = False) -> Measured:
    """Run the whole benchmark.

    Raises
    ------
    LossMismatchError
        Before anything is timed.
    SideFailedError
        If ours cannot run, or a side breaks after it has shown that it can start.
    """
    measured = Measured(job)
    with started(measured) as sides:
        longest = verify(sides, measured)
        measured.steps = job.steps or max(1, round(ROUND_SECONDS / longest))
        if choose_peer:
            sides = with_fastest_peer(sides, measured)
        for number in range(job.rounds):
            say(f"round {number + 1} of {job.rounds}, {measured.steps} updates on each side")
            one_round(sides if number % 2 == 0 else sides[::-1], measured)
        for side in sides:
            measured.memory[side.who] = side.ask("memory")
    return measured


def measure_memory(job: Job) -> Measured:
    """Run the verified updates and as many again, one side after the other; take the memory.

    No two sides are alive at once, so a model may take most of the machine.

    Raises
    ------
    LossMismatchError, SideFailedError
        As in ``measure``.
    """
    measured = Measured(job)
    with tempfile.TemporaryDirectory(prefix="memory-") as folder:
        for one in job.contestants:
            with ExitStack() as stack:
                side = start(one, Path(folder), measured, stack)
                if side is not None:
                    first_updates(side, measured)
                    side.ask("updates", n=VERIFIED_UPDATES)
                    measured.memory[one.who] = side.ask("memory")
    compare_all(measured)
    return measured


@contextmanager
def started(measured: Measured) -> Iterator[list[Side]]:
    """Start and prepare every side, ours first; peers that cannot run are left out."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="train-step-")))
        sides = [start(one, folder, measured, stack) for one in measured.job.contestants]
        yield [side for side in sides if side is not None]


def start(one: Contestant, folder: Path, measured: Measured, stack: ExitStack) -> Side | None:
    """Start and prepare one side, which the stack ends; None for a peer that cannot run."""
    job = measured.job
    command, env = job.command(one)
    # what a peer compiled in another run, held to other instructions, crashed or had other losses
    env = {**env, "TORCHINDUCTOR_CACHE_DIR": str(folder / "compiled")}
    try:
        side = Side(one.who, command, env, folder / f"{one.who}.log")
        stack.callback(side.close)
        reply = side.ask("prepare", job=job.request(one), folder=str(folder))
    except UnavailableError as error:
        if one.kind == OURS:
            raise SideFailedError(f"{one.who} cannot run this: {error}") from error
        measured.left_out[one.who] = str(error)
        say(f"{one.who} is left out: {error}")
        return None
    expected = job.size.parameters(job.bias)
    if reply["parameters"] != expected:
        raise LossMismatchError(f"{one.who} has {reply['parameters']} parameters, not {expected}")
    measured.about[one.who] = reply["about"]
    return side


def verify(sides: list[Side], measured: Measured) -> float:
    """Compare the losses of the first updates; return the slowest side's time for one, in s."""
    longest = max(first_updates(side, measured) for side in sides)
    compare_all(measured)
    return longest


def first_updates(side: Side, measured: Measured) -> float:
    """Make the updates that are verified; return the fastest one's seconds."""
    say(f"{side.who}: first updates")
    replies = [side.ask("updates", n=1) for _ in range(VERIFIED_UPDATES)]
    measured.losses[side.who] = [reply["losses"][0] for reply in replies]
    return min(float(reply["seconds"]) for reply in replies)


def compare_all(measured: Measured) -> None:
    """Hold every side's losses against those of the first."""
    ran = [one for one in measured.job.contestants if one.who in measured.losses]
    for other in ran[1:]:
        compare(measured, ran[0], other)


def compare(measured: Measured, one: Contestant, other: Contestant) -> None:
    """Hold two sides' verified losses against each other."""
    tolerance = one.tolerance(other)
    pairs = zip(measured.losses[one.who], measured.losses[other.who], strict=True)
    for update, (expected, found) in enumerate(pairs, start=1):
        if not abs(expected - found) <= tolerance * abs(expected):
            raise LossMismatchError(
                f"not the same computation: at update {update} the loss is {expected:.9g} in "
                f"{one.who} and {found:.9g} in {other.who}; expected a relative difference of at "
                f"most {tolerance:g}. Nothing was timed"
            )


def with_fastest_peer(sides: list[Side], measured: Measured) -> list[Side]:
    """Let the peers take short turns, untimed for the results; return ours and the fastest."""
    peers = {one.who for one in measured.job.contestants if one.kind != OURS}
    rivals = [side for side in sides if side.who in peers]
    if len(rivals) < 2:
        return sides
    n = max(1, measured.steps // CHOICE_TURNS)
    say(f"choosing a peer: {CHOICE_TURNS} turns of {n} updates each")
    best = dict.fromkeys((side.who for side in rivals), float("inf"))
    for _ in range(CHOICE_TURNS):
        for side in rivals:
            time.sleep(PAUSE_SECONDS)
            best[side.who] = min(best[side.who], side.ask("updates", n=n)["seconds"])
    chosen = min(best, key=lambda who: best[who])
    for side in rivals:
        if side.who != chosen:
            measured.not_chosen[side.who] = n * measured.job.size.tokens / best[side.who]
            side.close()
    say(f"chosen: {chosen}")
    return [side for side in sides if side.who not in measured.not_chosen]


def one_round(sides: list[Side], measured: Measured) -> None:
    """Let every side work once, in the order given; take the machine's peaks before and after.

    The better of the two counts: what a neighbour on the machine takes away lasts shorter.
    """
    ours = next(side for side in sides if side.who == measured.job.contestants[0].who)
    before = peaks(ours)
    for side in sides:
        time.sleep(PAUSE_SECONDS)
        reply = side.ask("updates", n=measured.steps)
        if not all(abs(loss) < float("inf") for loss in reply["losses"]):
            raise SideFailedError(f"{side.who}: the loss is no longer finite")
        measured.seconds.setdefault(side.who, []).append(reply["seconds"])
    for precision, gflops in peaks(ours).items():
        measured.peaks.setdefault(precision, []).append(max(before[precision], gflops))


def peaks(side: Side) -> dict[str, float]:
    """Return the machine's peaks now, by precision, in GFLOP/s."""
    time.sleep(PAUSE_SECONDS)
    found: dict[str, float] = side.ask("peak", seconds=PEAK_SECONDS)["gflops"]
    return found

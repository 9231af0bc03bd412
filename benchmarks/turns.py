"""The measurement itself: start the sides, hold them to the same losses, time them in turns.

What does not live here: the command line, the printed table, what a side computes.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from protocol import Side, SideFailedError, UnavailableError
from sizes import Size

__all__ = ["OURS", "PEERS", "Job", "LossMismatchError", "Measured", "measure", "say"]

HERE = Path(__file__).resolve().parent
OURS = "tisslm"
PEERS = ("torch", "torch-compile")

LOSS_TOLERANCE = 1e-4  # relative; float32 sums in another order differ by about 1e-6
VERIFIED_UPDATES = 3  # the second and third loss also tell of gradients, clip and AdamW
ROUND_SECONDS = 3.0  # a round of the slowest side, where the user names no number of steps
PAUSE_SECONDS = 0.3  # idle threads of the side before spin for a while
PEAK_SECONDS = 0.3

#: Without these, glibc gives PyTorch's activations back to the system in every step and faults
#: them in again; with them it is 1.5 to 4 times faster on large models.
PEER_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(8 * 2**30),
    "MALLOC_TRIM_THRESHOLD_": str(16 * 2**30),
    "MALLOC_TOP_PAD_": str(2**30),
}


class LossMismatchError(Exception):
    """Two sides do not compute the same thing, so their times must not be compared."""


@dataclass(frozen=True)
class Job:
    """What every side is told to do.

    Attributes
    ----------
    size : Size
    bias : bool
        Whether linear layers and norms have one.
    threads : int
    peers : tuple of str
        Of ``PEERS``.
    peer_python : str
        The interpreter that the peers run in.
    steps : int
        Updates in a round; 0 to take as many as fill about three seconds.
    rounds : int
    """

    size: Size
    bias: bool
    threads: int
    peers: tuple[str, ...]
    peer_python: str
    steps: int
    rounds: int

    def request(self, who: str) -> dict[str, Any]:
        """Return the plain values that a side's ``prepare`` takes."""
        fields = asdict(self.size)
        batch, time_ = fields.pop("batch"), fields.pop("time")
        return {
            "model": {**fields, "seq_len": time_, "bias": self.bias},
            "batch": batch,
            "threads": self.threads,
            "compile": who == "torch-compile",
            "adamw": {"lr": 1e-4, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1},
            "max_grad_norm": 1.0,
        }

    def command(self, who: str) -> tuple[list[str], dict[str, str]]:
        """Return the command line of a side, and what its environment gets."""
        env = {
            "PYTHONPATH": str(HERE),
            "TISSLM_NUM_THREADS": str(self.threads),
            "OMP_NUM_THREADS": str(self.threads),
            "MKL_NUM_THREADS": str(self.threads),
        }
        if who == OURS:
            return [sys.executable, str(HERE / "sides" / "ours.py")], env
        return [self.peer_python, str(HERE / "sides" / "torch_side.py")], {**env, **PEER_MALLOC}


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
    peak_rss_bytes : dict of str to int
    peak_gflops : list of float
        One figure for each round.
    about : dict of str to dict
        By side, versions and settings.
    left_out : dict of str to str
        Peers that could not run, with the reason.
    """

    job: Job
    steps: int = 0
    seconds: dict[str, list[float]] = field(default_factory=dict)
    losses: dict[str, list[float]] = field(default_factory=dict)
    peak_rss_bytes: dict[str, int] = field(default_factory=dict)
    peak_gflops: list[float] = field(default_factory=list)
    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def tokens_per_s(self, who: str) -> list[float]:
        """Return each round's rate."""
        return [self.steps * self.job.size.tokens / s for s in self.seconds[who]]

    def gflops(self, who: str) -> float:
        """Return the median rate of counted operations, in GFLOP/s."""
        rate = statistics.median(self.tokens_per_s(who))
        return rate * self.job.size.flops_per_token(self.job.bias) / 1e9


def measure(job: Job) -> Measured:
    """Run the whole benchmark.

    Raises
    ------
    LossMismatchError
        Before anything is timed.
    SideFailedError
        If a side breaks after it has shown that it can start.
    """
    measured = Measured(job)
    with started(measured) as sides:
        longest = verify(sides, measured)
        measured.steps = job.steps or max(1, round(ROUND_SECONDS / longest))
        for number in range(job.rounds):
            say(f"round {number + 1} of {job.rounds}, {measured.steps} updates on each side")
            one_round(sides, measured)
        for side in sides:
            measured.peak_rss_bytes[side.who] = side.ask("memory")["peak_rss_bytes"]
    return measured


@contextmanager
def started(measured: Measured) -> Iterator[list[Side]]:
    """Start and prepare every side, ours first; peers that cannot run are left out."""
    job, sides = measured.job, []
    expected = job.size.parameters(job.bias)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="train-step-")))
        for who in (OURS, *job.peers):
            command, env = job.command(who)
            try:
                side = Side(who, command, env, folder / f"{who}.log")
                stack.callback(side.close)
                reply = side.ask("prepare", job=job.request(who), folder=str(folder))
            except UnavailableError as error:
                measured.left_out[who] = str(error)
                say(f"{who} is left out: {error}")
                continue
            if reply["parameters"] != expected:
                raise LossMismatchError(
                    f"{who} has {reply['parameters']} parameters, expected {expected}"
                )
            measured.about[who] = reply["about"]
            sides.append(side)
        yield sides


def verify(sides: list[Side], measured: Measured) -> float:
    """Compare the losses of the first updates; return the slowest side's time for one, in s."""
    longest = 0.0
    for side in sides:
        say(f"{side.who}: first updates")
        replies = [side.ask("updates", n=1) for _ in range(VERIFIED_UPDATES)]
        measured.losses[side.who] = [reply["losses"][0] for reply in replies]
        longest = max(longest, min(reply["seconds"] for reply in replies))
    reference = measured.losses[sides[0].who]
    for side in sides[1:]:
        for update, (ours, theirs) in enumerate(
            zip(reference, measured.losses[side.who], strict=True), start=1
        ):
            if not abs(ours - theirs) <= LOSS_TOLERANCE * abs(ours):
                raise LossMismatchError(
                    f"not the same computation: at update {update} the loss is {ours:.7g} in "
                    f"{sides[0].who} and {theirs:.7g} in {side.who}; expected a relative "
                    f"difference of at most {LOSS_TOLERANCE:g}. Nothing was timed"
                )
    return longest


def one_round(sides: list[Side], measured: Measured) -> None:
    """Take the machine's peak once, then let every side work once, one after the other."""
    time.sleep(PAUSE_SECONDS)
    measured.peak_gflops.append(sides[0].ask("peak", seconds=PEAK_SECONDS)["gflops"])
    for side in sides:
        time.sleep(PAUSE_SECONDS)
        reply = side.ask("updates", n=measured.steps)
        if not all(abs(loss) < float("inf") for loss in reply["losses"]):
            raise SideFailedError(f"{side.who}: the loss is no longer finite")
        measured.seconds.setdefault(side.who, []).append(reply["seconds"])


def say(text: str) -> None:
    """Tell the user what goes on, apart from the results."""
    print(text, file=sys.stderr, flush=True)

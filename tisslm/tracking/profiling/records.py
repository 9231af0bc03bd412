"""What a profile consists of: steps, the places that they pass, the kernels that they call.

Times are nanoseconds of ``time.perf_counter_ns``.

They are recorded by ``recorder``, and shown by ``table`` and ``trace``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["OUTSIDE", "Call", "Recording", "Share", "Span", "Step"]

#: Place of a call that no layer makes: the norm of the gradients, the update.
OUTSIDE = "update and the rest"


@dataclass(frozen=True, slots=True)
class Share:
    """What one thread did in one parallel loop of a kernel."""

    thread: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a step with a name: a layer in one direction, or the wait for the batch.

    Attributes
    ----------
    place : str
        "blocks.0.attention", "head", ...
    direction : str
        "forward", "backward" or "recompute"; "" where there is none.
    """

    place: str
    direction: str
    start: int
    end: int

    @property
    def name(self) -> str:
        """Place and direction."""
        return f"{self.place} {self.direction}".rstrip()


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a kernel, or of its twin.

    Attributes
    ----------
    operation : str
    place, direction : str
        The same as in ``Span``; ``OUTSIDE`` and "" where no layer is at work.
    flops, nbytes : int
        Its operations, and its least traffic with memory.
    arrays : str
        Their names and shapes.
    shares : tuple of Share
        Empty where threads cannot be watched.
    """

    operation: str
    place: str
    direction: str
    start: int
    end: int
    flops: int
    nbytes: int
    arrays: str
    shares: tuple[Share, ...]

    @property
    def busy(self) -> int:
        """Nanoseconds of work, summed over the threads."""
        return sum(share.end - share.start for share in self.shares)


@dataclass(frozen=True, slots=True)
class Step:
    """One training step.

    Attributes
    ----------
    number : int
        The update that it was to make.
    spans : list of Span
        The spans in the order in which they ended, so that an inner one comes before an outer one.
    calls : list of Call
    exchanges : sequence of Span
        What another thread has sent to the other ranks meanwhile.
    """

    number: int
    start: int
    end: int
    spans: list[Span]
    calls: list[Call]
    exchanges: Sequence[Span] = ()


@dataclass
class Recording:
    """The steps that were recorded.

    Attributes
    ----------
    steps : list of Step
    threads : int
        The number of threads that the kernels use.
    plain : list of float
        Seconds of steps before them that were not recorded, without the first.
    about : mapping
        Facts of the run for a reader: version, engine, processor.
    path : str
        The path of the trace; "" if it could not be written.
    """

    threads: int
    about: Mapping[str, object] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    path: str = ""

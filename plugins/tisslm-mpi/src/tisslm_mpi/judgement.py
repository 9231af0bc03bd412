"""Which rank keeps the others waiting: what can be told from what the ranks say of themselves."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

__all__ = ["Said", "judge", "silent"]

#: Share of the time-out for which a rank may leave questions unanswered.
_SILENCE = 1 / 3


@dataclass(frozen=True)
class Said:
    """What a rank says of itself.

    Attributes
    ----------
    idle : float
        For how many seconds it has ended no call and not been told that it goes on.
    call : str
        What it waits in, "" if it works.
    doing : str
        What it was last told that it does, and the call that it has ended since.
    """

    idle: float
    call: str
    doing: str

    def encode(self) -> bytes:
        """Return it as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> Said:
        """Return what was encoded."""
        return cls(**json.loads(data))


def silent(timeout: float, own: Said, silence: Mapping[int, float], names: Sequence[str]) -> str:
    """Say which ranks do not answer, "" if all do; arguments as for :func:`judge`."""
    found = [q for q, seconds in silence.items() if seconds >= timeout * _SILENCE]
    if not found:
        return ""
    return (
        f"{_list(names[q] for q in found)} has not answered for {own.idle:.0f} s ({own.call}): it "
        "has been stopped or has ended, or the network is cut"
    )


def judge(
    timeout: float,
    own: Said,
    awaited: Sequence[int],
    said: Mapping[int, Said],
    silence: Mapping[int, float],
    names: Sequence[str],
) -> str:
    """Say why a rank that has waited for longer than the time-out waits in vain, where all answer.

    Parameters
    ----------
    timeout : float
        Seconds.
    own : Said
        Of the rank that asks.
    awaited : sequence of int
        Ranks that its call still waits for; empty if that is not known.
    said : mapping
        The last answer of each other rank that has given one.
    silence : mapping
        For how many seconds each other rank has left questions unanswered.
    names : sequence of str
        Such as ``rank 1 on node7``.

    Returns
    -------
    str
        "" if there is reason to wait on: a rank works.
    """
    waits = f"for {own.idle:.0f} s ({own.call})"
    answers = {q: answer for q, answer in said.items() if q in silence}
    if len(answers) < len(silence):
        return ""
    works = [q for q, answer in answers.items() if not answer.call]
    if any(answers[q].idle < timeout for q in works):
        return ""
    if works:
        done = _list(f"{names[q]} (after {answers[q].doing!r})" for q in works)
        return f"{done} has done nothing that is known, and others wait for it {waits}"
    if min((answer.idle for answer in answers.values()), default=0) < timeout / 2:
        return ""
    stands = ", ".join(f"{names[q]} in {answer.call}" for q, answer in sorted(answers.items()))
    missing = f", this one for {_list(names[q] for q in awaited)}" if awaited else ""
    return f"all ranks wait {waits}{missing}: {stands}; every rank makes the same calls in order"


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)

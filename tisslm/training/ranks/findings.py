"""What the search for a number that is not finite has found, on whichever rank it is."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from tisslm.contracts import Communicator
from tisslm.system.strict_json import plain_number, read_number
from tisslm.training.nonfinite.finding import Fault, Finding
from tisslm.training.ranks.agreement import all_say
from tisslm.training.ranks.share import Share

__all__ = ["first_finding"]


def first_finding(communicator: Communicator, own: Finding, share: Share) -> Finding:
    """Return the finding of the first rank that knows a fault, with rows of the whole step.

    Ranks have rows in their order, so it is the one that a single rank would have come to first.

    Parameters
    ----------
    communicator : Communicator
    own : Finding
        With the fault that is in this rank's rows, if there is one.
    share : Share
        Whose rows this rank has.
    """
    if communicator.size == 1:
        return own
    said = all_say(communicator, None if own.fault is None else _plain(own.fault, share))
    known = [fault for fault in said if fault is not None]
    return replace(own, fault=_fault(known[0])) if known else own


def _plain(fault: Fault, share: Share) -> dict[str, Any]:
    """Return a fault as plain values, its row and micro-batch counted in the whole step."""
    first = share.own_rows.start
    values = {**asdict(fault), "value": plain_number(fault.value)}
    if fault.row is not None:
        values["row"] = fault.row + first
    if fault.micro_batch is not None:
        values["micro_batch"] = fault.micro_batch + first // share.batch_size
    return values


def _fault(values: dict[str, Any]) -> Fault:
    """Return a fault of what ``_plain`` has made of it."""
    value = read_number(values["value"])
    return Fault(**{**values, "index": tuple(values["index"]), "value": value})

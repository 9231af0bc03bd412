"""Where a number that is not finite came from: a failed window is run again, every op checked.

A pass has the same bits whenever it is run, so the second one fails where the first one did, and
nothing has to be looked at in the first. ``investigate`` runs it, ``Tracer`` looks before and after
each op, and a ``Fault`` says what was found.

What does not live here: which steps are refused (``tisslm.training.guard``), and what is written
about one (``tisslm.training.incidents``).
"""

from __future__ import annotations

from tisslm.memory.finite import Spot, find_non_finite
from tisslm.training.nonfinite.finding import Fault, Finding
from tisslm.training.nonfinite.investigation import investigate
from tisslm.training.nonfinite.tracer import Tracer

__all__ = ["Fault", "Finding", "Spot", "Tracer", "find_non_finite", "investigate"]

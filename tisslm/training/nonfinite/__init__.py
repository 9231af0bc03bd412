"""The search for where a number that is not finite came from.

The rows of the failed step are run again, and every operation is checked.

A pass has the same bits whenever it is run, so the second one fails where the first one did, and
the first one need not be watched. ``investigate`` runs it, ``Tracer`` looks before and after each
operation, and a ``Fault`` says what was found.

Which steps are refused, and what is written about one, is in ``tisslm.training.refusals``.
"""

from __future__ import annotations

from tisslm.memory.finite import Spot, find_non_finite
from tisslm.training.nonfinite.finding import Fault, Finding
from tisslm.training.nonfinite.investigation import investigate
from tisslm.training.nonfinite.tracer import Tracer

__all__ = ["Fault", "Finding", "Spot", "Tracer", "find_non_finite", "investigate"]

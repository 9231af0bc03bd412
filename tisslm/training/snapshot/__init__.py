"""Everything that a run needs to go on: taken from its owners, and given back to them.

How it is written to files is in ``tisslm.checkpoint``, and when in ``tisslm.training.loop``.
"""

from __future__ import annotations

from tisslm.training.snapshot.conditions import Conditions
from tisslm.training.snapshot.part_states import load_part_states, part_states
from tisslm.training.snapshot.snapshot import Snapshot

__all__ = ["Conditions", "Snapshot", "load_part_states", "part_states"]

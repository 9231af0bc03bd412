"""Everything that a run needs to go on: taken from its owners, and given back to them.

What does not live here: files on the disk (``checkpoint``), and when one is written (``loop``).
"""

from __future__ import annotations

from tisslm.training.snapshot.conditions import Conditions
from tisslm.training.snapshot.part_states import load_part_states, part_states
from tisslm.training.snapshot.snapshot import Snapshot

__all__ = ["Conditions", "Snapshot", "load_part_states", "part_states"]

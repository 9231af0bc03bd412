"""The built-in losses over next-token logits: one file and one final class each.

What does not live here: means over targets and chunks of rows (``Loss`` in
``tisslm.contracts``), and the arithmetic (``tisslm.ops``).
"""

from __future__ import annotations

from tisslm.optim.losses.cross_entropy import CrossEntropy
from tisslm.optim.losses.focal import Focal
from tisslm.optim.losses.label_smoothing import LabelSmoothing

__all__ = ["CrossEntropy", "Focal", "LabelSmoothing"]

"""The built-in losses of next-token prediction: a module and a final class each.

Means over targets and chunks of rows are handled in ``contracts.optimization``; the arithmetic is
in ``tisslm.ops``.
"""

from __future__ import annotations

from tisslm.optim.losses.cross_entropy import CrossEntropy
from tisslm.optim.losses.focal import Focal
from tisslm.optim.losses.label_smoothing import LabelSmoothing

__all__ = ["CrossEntropy", "Focal", "LabelSmoothing"]

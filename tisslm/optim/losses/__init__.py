"""The built-in losses: a module and a final class each.

Of next-token prediction, where means over targets and chunks of rows are handled in
``contracts.optimization`` and the arithmetic is in ``tisslm.ops``; of the vectors of texts
(``contracts.embedding``), which are called once for each update; and of pairs of answers
(``contracts.preference``).
"""

from __future__ import annotations

from tisslm.optim.losses.contrastive import Contrastive
from tisslm.optim.losses.cosine_similarity import CosineSimilarity
from tisslm.optim.losses.cross_entropy import CrossEntropy
from tisslm.optim.losses.distillation import Distillation
from tisslm.optim.losses.dpo import DPO
from tisslm.optim.losses.focal import Focal
from tisslm.optim.losses.label_smoothing import LabelSmoothing
from tisslm.optim.losses.triplet import Triplet

__all__ = [
    "DPO",
    "Contrastive",
    "CosineSimilarity",
    "CrossEntropy",
    "Distillation",
    "Focal",
    "LabelSmoothing",
    "Triplet",
]

"""The built-in learning-rate schedulers: functions of the number of updates made.

``lr_at(s)`` is the rate of the update that follows ``s`` updates, so the first update of a run
has ``lr_at(0)`` and the last of ``max_steps`` has ``lr_at(max_steps - 1)``.
Only ``ReduceOnPlateau`` has a state: the evaluations so far. A function that is given as a
scheduler becomes one in ``_function``, which has no name.
"""

from __future__ import annotations

from tisslm.optim.schedulers.constant import Constant
from tisslm.optim.schedulers.cosine import Cosine
from tisslm.optim.schedulers.cosine_restarts import CosineRestarts
from tisslm.optim.schedulers.exponential import ExponentialDecay
from tisslm.optim.schedulers.inverse_sqrt import InverseSqrt
from tisslm.optim.schedulers.polynomial import Polynomial
from tisslm.optim.schedulers.reduce_on_plateau import ReduceOnPlateau
from tisslm.optim.schedulers.step import StepDecay
from tisslm.optim.schedulers.warmup_cosine import WarmupCosine
from tisslm.optim.schedulers.warmup_linear import WarmupLinear

__all__ = [
    "Constant",
    "Cosine",
    "CosineRestarts",
    "ExponentialDecay",
    "InverseSqrt",
    "Polynomial",
    "ReduceOnPlateau",
    "StepDecay",
    "WarmupCosine",
    "WarmupLinear",
]

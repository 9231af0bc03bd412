"""The built-in learning-rate schedulers: functions of the number of updates made.

``lr_at(s)`` is the rate of the update that follows ``s`` updates, so the first update of a run
has ``lr_at(0)`` and the last of ``max_steps`` has ``lr_at(max_steps - 1)``.
``ReduceOnPlateau`` alone has a memory, of the evaluations so far.

What does not live here: when a scheduler is called (the Trainer, after each update), and the
learning rate that all of them start from (the optimizer's).
"""

from __future__ import annotations

from tisslm.optim.schedulers.constant import Constant
from tisslm.optim.schedulers.cosine import Cosine
from tisslm.optim.schedulers.exponential import ExponentialDecay
from tisslm.optim.schedulers.reduce_on_plateau import ReduceOnPlateau
from tisslm.optim.schedulers.step import StepDecay
from tisslm.optim.schedulers.warmup_cosine import WarmupCosine
from tisslm.optim.schedulers.warmup_linear import WarmupLinear

__all__ = [
    "Constant",
    "Cosine",
    "ExponentialDecay",
    "ReduceOnPlateau",
    "StepDecay",
    "WarmupCosine",
    "WarmupLinear",
]

"""The built-in optimizers: a module and a final class each, over flat arenas.

``weight_decay`` does not apply to groups of parameters without decay (biases and norms, as the
model specifies). The ``lr_scale`` of a group multiplies its learning rate.

Learning rates over time are in ``tisslm.optim.schedulers``; clipping is
``Optimizer.scale_next_step`` of ``tisslm.contracts``.
"""

from __future__ import annotations

from tisslm.optim.optimizers.adam import Adam
from tisslm.optim.optimizers.adamw import AdamW
from tisslm.optim.optimizers.rmsprop import RMSprop
from tisslm.optim.optimizers.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "RMSprop"]

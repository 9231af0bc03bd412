"""The built-in optimizers: one file and one final class each, over flat arenas.

A group of parameters that does not decay (biases and norms, as the model says) is left out of
``weight_decay``; its ``lr_scale`` multiplies the learning rate.

What does not live here: learning rates over time (``tisslm.optim.schedulers``), and clipping
(``Optimizer.scale_next_step`` in ``tisslm.contracts``).
"""

from __future__ import annotations

from tisslm.optim.optimizers.adam import Adam
from tisslm.optim.optimizers.adamw import AdamW
from tisslm.optim.optimizers.rmsprop import RMSprop
from tisslm.optim.optimizers.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "RMSprop"]

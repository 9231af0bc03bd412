"""Curves of schedulers: a linear warm-up, and the decay that follows it."""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["half_cosine", "line", "warmup_then"]


def warmup_then(
    fall: Callable[[float], float],
    step: int,
    *,
    base_lr: float,
    min_lr: float,
    warmup_steps: int,
    max_steps: int,
) -> float:
    """Rise to ``base_lr`` in ``warmup_steps`` updates, then fall to ``min_lr`` at ``max_steps``.

    ``s < W``: ``base_lr (s + 1) / (W + 1)``, so that no update has rate 0. From there,
    ``base_lr f + min_lr (1 - f)`` with ``f = fall((s - W) / (max_steps - W))``, and ``min_lr``
    from ``max_steps`` on.

    Parameters
    ----------
    fall : callable
        The shape of the decay: a function with value 1 at 0, and 0 at 1.
    step : int
        s, the number of updates made.
    base_lr, min_lr : float
    warmup_steps, max_steps : int
        ``0 <= warmup_steps < max_steps``.

    Returns
    -------
    float
        Learning rate of the next update.
    """
    if step < warmup_steps:
        return base_lr * (step + 1) / (warmup_steps + 1)
    if step >= max_steps:
        return min_lr
    share = fall((step - warmup_steps) / (max_steps - warmup_steps))
    # in this form a rate is never above base_lr, and is base_lr itself if min_lr is
    return base_lr - (base_lr - min_lr) * (1.0 - share)


def half_cosine(x: float) -> float:
    """Compute ``(1 + cos(pi x)) / 2``: from 1 at 0 to 0 at 1, flat at both ends."""
    return 0.5 * (1.0 + math.cos(math.pi * x))


def line(x: float) -> float:
    """Compute ``1 - x``."""
    return 1.0 - x

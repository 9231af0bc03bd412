"""Checks of the schedulers' options, each with one sentence.

Not here: names of options, which the registry checks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real

from tisslm.errors import ConfigError

__all__ = ["amount", "count", "factor", "minimum", "updates", "warmup", "word"]


def updates(where: str, value: object, what: str = "updates") -> int:
    """Return a number of updates, at least 1.

    Parameters
    ----------
    where : str
        Scheduler and option, such as ``"scheduler cosine: max_steps"``.
    value : object
        What was given.
    what : str
        What is counted, if not updates.

    Raises
    ------
    ConfigError
        If it is no such number.
    """
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1:
        return int(value)
    raise ConfigError(f"{where}: expected a number of {what}, an integer >= 1, got {value!r:.200}")


def count(where: str, value: object) -> int:
    """Return an integer of at least 0.

    Parameters
    ----------
    where : str
        Scheduler and option.
    value : object
        What was given.

    Raises
    ------
    ConfigError
        If it is no such number.
    """
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0:
        return int(value)
    raise ConfigError(f"{where}: expected an integer >= 0, got {value!r:.200}")


def amount(where: str, value: object) -> float:
    """Return a finite number of at least 0.

    Parameters
    ----------
    where : str
        Scheduler and option.
    value : object
        What was given.

    Raises
    ------
    ConfigError
        If it is no such number.
    """
    if isinstance(value, Real) and not isinstance(value, bool) and 0.0 <= float(value) < math.inf:
        return float(value)
    raise ConfigError(f"{where}: expected a finite number >= 0, got {value!r:.200}")


def word(where: str, value: object, known: Sequence[str] = ()) -> str:
    """Return a string that is not empty, and one of those that are known, if any are given.

    Parameters
    ----------
    where : str
        Scheduler and option.
    value : object
        What was given.
    known : sequence of str

    Raises
    ------
    ConfigError
        If it is no such string.
    """
    if isinstance(value, str) and value and (not known or value in known):
        return value
    what = " or ".join(f'"{name}"' for name in known) or "a name"
    raise ConfigError(f"{where}: expected {what}, got {value!r:.200}")


def factor(where: str, value: object) -> float:
    """Return a factor of the learning rate, above 0 and at most 1.

    Parameters
    ----------
    where : str
        Scheduler and option.
    value : object
        What was given.

    Raises
    ------
    ConfigError
        If it is no such number.
    """
    if isinstance(value, Real) and not isinstance(value, bool) and 0.0 < float(value) <= 1.0:
        return float(value)
    raise ConfigError(f"{where}: expected a number in (0, 1], got {value!r:.200}")


def minimum(where: str, value: object, base_lr: float) -> float:
    """Return a learning rate to end at, at most the one to start from.

    Parameters
    ----------
    where : str
        Scheduler and option.
    value : object
        What was given.
    base_lr : float
        The optimizer's learning rate at the start.

    Raises
    ------
    ConfigError
        If it is no such number.
    """
    if isinstance(value, Real) and not isinstance(value, bool) and 0.0 <= float(value) <= base_lr:
        return float(value)
    raise ConfigError(
        f"{where}: expected a number from 0 to the learning rate {base_lr:g}, got {value!r:.200}"
    )


def warmup(where: str, value: object, max_steps: int) -> int:
    """Return the number of warm-up updates, given as such or as a fraction of ``max_steps``.

    Parameters
    ----------
    where : str
        Scheduler and option.
    value : object
        An integer from 0 below ``max_steps``; or a fraction from 0 below 1, which is rounded to
        the nearest number of updates.
    max_steps : int
        The number of updates of the run.

    Raises
    ------
    ConfigError
        If it is neither.
    """
    if isinstance(value, Real) and not isinstance(value, bool):
        if isinstance(value, Integral):
            if 0 <= int(value) < max_steps:
                return int(value)
        elif 0.0 <= float(value) < 1.0:
            return min(round(float(value) * max_steps), max_steps - 1)
    raise ConfigError(
        f"{where}: expected an integer from 0 to below max_steps = {max_steps}, "
        f"or a fraction below 1, got {value!r:.200}"
    )

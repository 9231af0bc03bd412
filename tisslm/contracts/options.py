"""Checks of the options of parts, ours and plugins': each returns the value, or says what is wrong.

Not here: names of options, which the registry checks, and the learning rate, which
``Optimizer`` checks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import cast

from tisslm.errors import ConfigError

__all__ = [
    "LEAST_EPS",
    "count",
    "factor",
    "flag",
    "lowest",
    "minimum",
    "number",
    "span",
    "updates",
    "warmup",
    "word",
]

#: Below the smallest normal float32, 1.2e-38, kernels would read 0; this leaves room for products.
LEAST_EPS = 1e-30


def number(where: str, value: object, low: float, below: float = math.inf) -> float:
    """Return an option that must be a number between two bounds.

    Parameters
    ----------
    where : str
        Part and option, such as ``"optimizer adamw: beta1"``.
    value : object
        What was given.
    low, below : float
        ``low <= value < below``.

    Raises
    ------
    ConfigError
        If it is none, or out of bounds.
    """
    if isinstance(value, Real) and not isinstance(value, bool):
        given = float(value)
        if low <= given < below:
            return given
    wanted = (
        f"a finite number >= {low:g}" if below == math.inf else f"a number in [{low:g}, {below:g})"
    )
    raise ConfigError(f"{where}: expected {wanted}, got {value!r:.200}")


def flag(where: str, value: object) -> bool:
    """Return an option that must be True or False.

    Parameters
    ----------
    where : str
        Part and option.
    value : object
        What was given.

    Raises
    ------
    ConfigError
        If it is neither; 0 and "false" are not guessed at.
    """
    if not isinstance(value, bool):
        raise ConfigError(f"{where}: expected true or false, got {value!r:.200}")
    return value


def updates(where: str, value: object, what: str = "updates") -> int:
    """Return a number of updates, at least 1.

    Parameters
    ----------
    where : str
        Part and option, such as ``"scheduler cosine: max_steps"``.
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


def count(where: str, value: object, least: int = 0) -> int:
    """Return an integer of at least ``least``.

    Parameters
    ----------
    where : str
        Part and option.
    value : object
        What was given.
    least : int

    Raises
    ------
    ConfigError
        If it is no such number.
    """
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least:
        return int(value)
    raise ConfigError(f"{where}: expected an integer >= {least}, got {value!r:.200}")


def word(where: str, value: object, known: Sequence[str] = ()) -> str:
    """Return a string that is not empty, and one of those that are known, if any are given.

    Parameters
    ----------
    where : str
        Part and option.
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
        Part and option.
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
        Part and option.
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


def lowest(name: str, min_lr: object, min_lr_ratio: object, base_lr: float) -> float:
    """Return a learning rate to end at, given as such or as a share of the one to start from.

    Parameters
    ----------
    name : str
        The scheduler.
    min_lr : object
        From 0 to ``base_lr``; 0 leaves it to the ratio.
    min_lr_ratio : object
        From 0 to 1; None leaves it to ``min_lr``.
    base_lr : float
        The optimizer's learning rate at the start.

    Raises
    ------
    ConfigError
        If one is out of range, or both are given.
    """
    where = f"scheduler {name}: min_lr"
    if min_lr_ratio is None:
        return minimum(where, min_lr, base_lr)
    if min_lr != 0.0:
        raise ConfigError(
            f"{where}: expected none beside min_lr_ratio = {min_lr_ratio!r}, got {min_lr!r}; "
            "keep one of the two"
        )
    number = isinstance(min_lr_ratio, Real) and not isinstance(min_lr_ratio, bool)
    if number and 0.0 <= float(cast("float", min_lr_ratio)) <= 1.0:
        return base_lr * float(cast("float", min_lr_ratio))
    raise ConfigError(f"{where}_ratio: expected a number from 0 to 1, got {min_lr_ratio!r}")


def span(where: str, value: object, max_steps: object) -> int:
    """Return a number of updates, at least 1, given as such or as a fraction of ``max_steps``.

    Parameters
    ----------
    where : str
        Part and option.
    value : object
        An integer >= 1; or a fraction below 1, which is rounded to the nearest number of updates.
    max_steps : object
        The number of updates of the run, which only a fraction asks for.

    Raises
    ------
    ConfigError
        If it is neither, or a fraction of a run whose length was not given.
    """
    if isinstance(value, Real) and not isinstance(value, Integral) and 0.0 < float(value) < 1.0:
        if max_steps is None:
            raise ConfigError(f"{where}: a fraction, {value!r}, needs max_steps; give it, too")
        run = updates(f"{where.rpartition(':')[0]}: max_steps", max_steps)
        return max(1, round(float(value) * run))
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1:
        return int(value)
    raise ConfigError(f"{where}: expected an integer >= 1, or a fraction below 1, got {value!r}")


def warmup(where: str, value: object, max_steps: int) -> int:
    """Return the number of warm-up updates, given as such or as a fraction of ``max_steps``.

    Parameters
    ----------
    where : str
        Part and option.
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

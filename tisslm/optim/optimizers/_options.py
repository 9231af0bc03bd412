"""Checks of the optimizers' options, all with the same sentence.

Not here: names of options, which the registry checks, and the learning rate, which the contract
checks.
"""

from __future__ import annotations

from math import inf
from numbers import Real

from tisslm.errors import ConfigError

__all__ = ["LEAST_EPS", "flag", "number"]

#: Below the smallest normal float32, 1.2e-38, kernels would read 0; this leaves room for products.
LEAST_EPS = 1e-30


def number(where: str, value: object, low: float, below: float = inf) -> float:
    """Return an option that must be a number between two bounds.

    Parameters
    ----------
    where : str
        Optimizer and option, such as ``"optimizer adamw: beta1"``.
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
    wanted = f"a finite number >= {low:g}" if below == inf else f"a number in [{low:g}, {below:g})"
    raise ConfigError(f"{where}: expected {wanted}, got {value!r:.200}")


def flag(where: str, value: object) -> bool:
    """Return an option that must be True or False.

    Parameters
    ----------
    where : str
        Optimizer and option.
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

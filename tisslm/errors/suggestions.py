"""What a message suggests where a name is not known: the one that is spelled most alike."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean", "nearest"]


def nearest(name: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """Return the known name that is most like another one, "" if none is alike.

    Parameters
    ----------
    name : str
    known : iterable of str
    likeness : float, default 0.6
        From 0 to 1: a name that is less alike is not suggested.

    Examples
    --------
    >>> nearest("adamv", ["sgd", "adamw"]), nearest("zzz", ["sgd", "adamw"])
    ('adamw', '')
    """
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=likeness)), "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence that suggests the nearest name, with a blank before it; "" if none is near.

    Examples
    --------
    >>> did_you_mean("adamv", ["sgd", "adamw"])
    " Did you mean 'adamw'?"
    """
    near = nearest(name, known)
    return f" Did you mean {near!r}?" if near else ""

"""What a twin's docstring says of its arrays: which are read, written, or scratch.

The mark stands at the end of an array's line: ``IN``, ``OUT``, ``IN/OUT``, ``scratch``, or, for
what is added to where a flag is true and overwritten otherwise, ``IN/OUT with <flag>``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Marks", "marks_of"]

_LINE = re.compile(
    r"^(\w+(?:, \w+)*) : ndarray.*, (?:(IN/OUT)(?: with (\w+))?|(IN|OUT|scratch))$", re.MULTILINE
)


@dataclass(frozen=True)
class Marks:
    """The marked arrays of an operation.

    Attributes
    ----------
    written : dict of str to (str or bool)
        What is written, and whether it is read before: True, False, or the name of a flag.
    scratch : frozenset of str
        Arrays that hold nothing between two calls.
    arrays : frozenset of str
        All that have a mark.
    """

    written: dict[str, str | bool]
    scratch: frozenset[str]
    arrays: frozenset[str]


def marks_of(twin: Callable[..., Any]) -> Marks:
    """Read the marks of a twin; there are none where Python was told to drop docstrings (-OO)."""
    written: dict[str, str | bool] = {}
    scratch: set[str] = set()
    arrays: set[str] = set()
    for names, both, flag, one in _LINE.findall(inspect.getdoc(twin) or ""):
        for name in names.split(", "):
            arrays.add(name)
            if both:
                written[name] = flag or True
            elif one == "OUT":
                written[name] = False
            elif one == "scratch":
                scratch.add(name)
    return Marks(written, frozenset(scratch), frozenset(arrays))

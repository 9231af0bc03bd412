"""Values that may still be on their way: whoever asks for them waits, and no one else is asked to.

In a run of several ranks, the parameters that other ranks have updated come back while the next
pass goes on. That none is read before it is there is settled here, where values are handed out, and
not by all those who read them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

__all__ = ["Awaited", "Until"]

Array = NDArray[Any]

#: Is given first element and end of a range of the flat array, and returns when its values are
#: there. What it raises, whoever asks for them is told.
Until = Callable[[int, int], None]


class _Asked:
    """The attribute ``data``: a plain one, but for the time in which values are on their way.

    This is no data descriptor, so what lies in the object's own dict comes first, at the price of a
    plain attribute. While nothing lies there, whoever asks comes here.
    """

    def __get__(self, holder: Awaited, kind: object = None) -> Array:
        return holder.ask()


class Awaited:
    """Has ``data``, and hands it out when it is there.

    Parameters
    ----------
    values : ndarray
    offset : int
        Where they begin in the flat array.
    """

    data = _Asked()

    def __init__(self, values: Array, offset: int) -> None:
        self._values = values
        self._range = offset, offset + values.size
        self._until: Until | None = None
        self._give()

    def withhold(self, until: Until) -> None:
        """Hand out nothing from here on before it is there.

        Parameters
        ----------
        until : callable
        """
        self._until = until
        vars(self).pop("data", None)

    def ask(self) -> Array:
        """Return the values once they are there, as ``data`` does."""
        if self._until is not None:
            self._until(*self._range)
        return self._give()

    def _give(self) -> Array:
        vars(self)["data"] = self._values
        return self._values

"""Parts with a memory: what a checkpoint keeps of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass

__all__ = [
    "Stateful",
]


class Stateful:
    """A part that may remember something from step to step, which a checkpoint then keeps.

    Both methods are optional; a part without memory writes neither.
    """

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain JSON values; asked at every save."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what ``state`` returned, before the first step of a resumed run.

        Only called with what a part of the same class returned.
        """

"""Parts with a memory: what a checkpoint keeps of them, and what a run shows of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tisslm.config.metric_types import Metric

__all__ = [
    "Stateful",
]


class Stateful:
    """A part that may remember something from step to step, which a checkpoint then keeps.

    All methods are optional; a part without memory writes none.
    """

    #: What ``metrics`` gives: names, and how they are shown and compared.
    declares: ClassVar[Sequence[Metric]] = ()

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain JSON values; asked at every save."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what ``state`` returned, before the first step of a resumed run.

        Only called with what a part of the same class returned.
        """

    def metrics(self) -> Mapping[str, object]:
        """Return numbers of one's own by the names that ``declares`` has.

        Asked at logged steps, and when the best metric is looked at or saved; it changes nothing.
        A part that raises is named and asked no more. (A monitor's is asked at its own steps, and
        may have histograms.)
        """
        return {}

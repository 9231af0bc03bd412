"""How the tests of ``make test`` are handed out to its processes: files whole, in their order.

What a file prepares for its tests is then made once. Jobs of ranks are one file to this, and come
first: a rank waits for others at each message, so that two jobs on the same cores take minutes.
"""

from __future__ import annotations

from xdist.scheduler.loadfile import LoadFileScheduling

__all__ = ["ONE_AT_A_TIME", "Files"]

#: The folder whose tests run in one process.
ONE_AT_A_TIME = "plugins/tisslm-mpi/tests"


class Files(LoadFileScheduling):
    """Hands out the next file to the process that is about to have done its own.

    Marks are not asked for it: with pytest 9.2, those of pytest-xdist 3.8 have no effect.
    """

    def _split_scope(self, nodeid: str) -> str:
        return ONE_AT_A_TIME if nodeid.startswith(ONE_AT_A_TIME) else super()._split_scope(nodeid)

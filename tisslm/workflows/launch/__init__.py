"""Starting the ranks of a run on this machine, and starting them again after a fault.

The process that does so imports no MPI and has no kernels: it looks on, hands on signals, and
decides what an end means. Across machines, the launcher of the cluster does this.
"""

from __future__ import annotations

from tisslm.workflows.launch.restarts import launch

__all__ = ["launch"]

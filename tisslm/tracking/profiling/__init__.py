"""Where the time of some training steps goes: kernel by kernel, place by place, thread by thread.

``Profiler`` chooses the steps and records them, ``Profile`` is what came out: a table, and a trace
for https://ui.perfetto.dev.

How much work a call is stands in ``tisslm.ops.cost``, the stamps of the kernels' threads in
``_kernels/c/regions.c``, bounds and comparisons in ``benchmarks/``.
"""

from tisslm.tracking.profiling.profile import Profile
from tisslm.tracking.profiling.profiler import TRACE, WARM_UP, Profiler

__all__ = ["TRACE", "WARM_UP", "Profile", "Profiler"]

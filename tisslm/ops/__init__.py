"""Operations on arrays: each runs a compiled kernel on all threads, or its NumPy twin.

Formulas and shapes are documented with the twins, in ``tisslm.ops.reference``. The kernels are
loaded when the first operation is accessed, so that ``tisslm doctor`` works where they cannot be.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tisslm.ops.door import register as register
    from tisslm.ops.operations import *  # noqa: F403 (what is more than its twin, at last)
    from tisslm.ops.pace import Pace as Pace
    from tisslm.ops.reference.activation import *  # noqa: F403 (an operation has its arguments)
    from tisslm.ops.reference.attention import *  # noqa: F403
    from tisslm.ops.reference.cross_entropy import *  # noqa: F403
    from tisslm.ops.reference.dropout import *  # noqa: F403
    from tisslm.ops.reference.embedding import *  # noqa: F403
    from tisslm.ops.reference.head_norm import *  # noqa: F403
    from tisslm.ops.reference.linear import *  # noqa: F403
    from tisslm.ops.reference.norm import *  # noqa: F403
    from tisslm.ops.reference.optim import *  # noqa: F403
    from tisslm.ops.reference.pooling import *  # noqa: F403
    from tisslm.ops.reference.rotary import *  # noqa: F403
    from tisslm.ops.reference.summary import *  # noqa: F403
    from tisslm.ops.runtime import REFERENCE_ONLY as REFERENCE_ONLY
    from tisslm.ops.runtime import engine as engine
    from tisslm.ops.runtime import multiplies_bf16 as multiplies_bf16
    from tisslm.ops.runtime import peak_gflops as peak_gflops
    from tisslm.ops.runtime import refuse_fork as refuse_fork
    from tisslm.ops.runtime import reserve_scratch as reserve_scratch
    from tisslm.ops.runtime import set_threads as set_threads
    from tisslm.ops.runtime import thread_count as thread_count
    from tisslm.ops.runtime import thread_scratch_bytes as thread_scratch_bytes
    from tisslm.ops.runtime import watch_regions as watch_regions
    from tisslm.ops.watchers import Watcher as Watcher
    from tisslm.ops.watchers import watching as watching

#: The modules of the names that are not in ``operations``.
_HOMES = {
    "Pace": "pace",
    "REFERENCE_ONLY": "runtime",
    "Watcher": "watchers",
    "engine": "runtime",
    "multiplies_bf16": "runtime",
    "peak_gflops": "runtime",
    "refuse_fork": "runtime",
    "register": "door",
    "reserve_scratch": "runtime",
    "set_threads": "runtime",
    "thread_count": "runtime",
    "thread_scratch_bytes": "runtime",
    "watch_regions": "runtime",
    "watching": "watchers",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES and find_spec(f"tisslm.ops.{name}") is not None:
        return import_module(f"tisslm.ops.{name}")  # a module, which loads no kernel by itself
    if name in _HOMES:
        found = getattr(import_module(f"tisslm.ops.{_HOMES[name]}"), name)
    else:
        operations = import_module("tisslm.ops.operations")
        own = name in operations.__all__
        found = getattr(operations, name) if own else operations.BUILT_IN.get(name)
        if found is None:
            raise AttributeError(f"module 'tisslm.ops' has no attribute {name!r}")
    globals()[name] = found  # looked up once: operations are called many times a step
    return found


def __dir__() -> list[str]:
    operations = import_module("tisslm.ops.operations")
    return sorted({*_HOMES, *operations.__all__, *operations.BUILT_IN})

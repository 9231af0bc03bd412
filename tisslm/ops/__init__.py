"""Every operation on arrays, with the threads and scratch of its kernels.

Formulas and shapes are documented with the NumPy twins, in ``tisslm.ops.reference``. The kernels
are loaded with the first name that is asked for: ``tisslm doctor`` works where they cannot be.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tisslm.ops.operations import (
        ACTIVATIONS,
        NORM_BLOCK,
        activation_backward,
        activation_forward,
        adam_update,
        attention_backward,
        attention_decode,
        attention_entropy,
        attention_forward,
        cross_entropy_tile,
        dropout_backward,
        dropout_forward,
        embedding_backward,
        embedding_forward,
        exp_sum,
        fill,
        focal_tile,
        global_norm,
        layer_norm_apply,
        layer_norm_backward,
        layer_norm_forward,
        linear_activation_forward,
        linear_backward_input,
        linear_backward_weight,
        linear_forward,
        linear_residual_forward,
        matmul,
        narrow,
        norm_parts,
        norm_parts_bytes,
        residual_forward,
        rmsprop_update,
        scale,
        sgd_update,
        softmax_gradient,
        squared_norm,
        summarize,
        target_rank,
        widen,
    )
    from tisslm.ops.runtime import (
        REFERENCE_ONLY,
        engine,
        multiplies_bf16,
        peak_gflops,
        refuse_fork,
        reserve_scratch,
        set_threads,
        thread_count,
        thread_scratch_bytes,
        watch_regions,
    )
    from tisslm.ops.watchers import (
        Watcher,
        watching,
    )

__all__ = [
    "ACTIVATIONS",
    "NORM_BLOCK",
    "REFERENCE_ONLY",
    "Watcher",
    "activation_backward",
    "activation_forward",
    "adam_update",
    "attention_backward",
    "attention_decode",
    "attention_entropy",
    "attention_forward",
    "cross_entropy_tile",
    "dropout_backward",
    "dropout_forward",
    "embedding_backward",
    "embedding_forward",
    "engine",
    "exp_sum",
    "fill",
    "focal_tile",
    "global_norm",
    "layer_norm_apply",
    "layer_norm_backward",
    "layer_norm_forward",
    "linear_activation_forward",
    "linear_backward_input",
    "linear_backward_weight",
    "linear_forward",
    "linear_residual_forward",
    "matmul",
    "multiplies_bf16",
    "narrow",
    "norm_parts",
    "norm_parts_bytes",
    "peak_gflops",
    "refuse_fork",
    "reserve_scratch",
    "residual_forward",
    "rmsprop_update",
    "scale",
    "set_threads",
    "sgd_update",
    "softmax_gradient",
    "squared_norm",
    "summarize",
    "target_rank",
    "thread_count",
    "thread_scratch_bytes",
    "watch_regions",
    "watching",
    "widen",
]

#: Where the names are that are not of ``operations``.
_HOMES = {
    "REFERENCE_ONLY": "runtime",
    "Watcher": "watchers",
    "engine": "runtime",
    "multiplies_bf16": "runtime",
    "peak_gflops": "runtime",
    "refuse_fork": "runtime",
    "reserve_scratch": "runtime",
    "set_threads": "runtime",
    "thread_count": "runtime",
    "thread_scratch_bytes": "runtime",
    "watch_regions": "runtime",
    "watching": "watchers",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'tisslm.ops' has no attribute {name!r}")
    found = getattr(import_module(f"tisslm.ops.{_HOMES.get(name, 'operations')}"), name)
    globals()[name] = found  # looked up once: operations are called many times a step
    return found

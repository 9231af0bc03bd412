"""TissLM trains transformer language models on multicore CPUs, from Python.

Every name here is loaded on first use (PEP 562), so that importing the package costs
milliseconds and nothing third-party is imported before it is needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tisslm.config import TrainingConfig
    from tisslm.datasets.text import TextDataset
    from tisslm.datasets.tokens import TokenDataset
    from tisslm.errors import TissLMError
    from tisslm.generate import Sampling
    from tisslm.hookspecs import Entry, hookimpl
    from tisslm.models.transformer import Transformer
    from tisslm.models.transformer_config import TransformerConfig
    from tisslm.threads import blas_threads
    from tisslm.trainer import Trainer

__all__ = [
    "Entry",
    "Sampling",
    "TextDataset",
    "TissLMError",
    "TokenDataset",
    "Trainer",
    "TrainingConfig",
    "Transformer",
    "TransformerConfig",
    "__version__",
    "blas_threads",
    "hookimpl",
]

_HOMES = {
    "Entry": "tisslm.hookspecs",
    "Sampling": "tisslm.generate",
    "TextDataset": "tisslm.datasets.text",
    "TissLMError": "tisslm.errors",
    "TokenDataset": "tisslm.datasets.tokens",
    "Trainer": "tisslm.trainer",
    "TrainingConfig": "tisslm.config",
    "Transformer": "tisslm.models.transformer",
    "TransformerConfig": "tisslm.models.transformer_config",
    "blas_threads": "tisslm.threads",
    "hookimpl": "tisslm.hookspecs",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from tisslm.plugins import tisslm_version

        return tisslm_version()
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tisslm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

"""TissLM trains transformer language models on multicore CPUs, from Python.

Every name here is loaded on first use (PEP 562), so that importing the package costs
milliseconds and nothing third-party is imported before it is needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tisslm.config import AdapterConfig, EmaConfig, GroupConfig, TrainingConfig
    from tisslm.config.model import TransformerConfig
    from tisslm.datasets.text import TextDataset
    from tisslm.datasets.tokens import TokenDataset
    from tisslm.errors import TissLMError
    from tisslm.models.encoder.text_encoder import TextEncoder
    from tisslm.models.generation import Sampling, generate
    from tisslm.models.transformer import Transformer
    from tisslm.models.tuning.tuning import Tuning
    from tisslm.ops.threads import blas_threads
    from tisslm.registry.hookspecs import Entry, hookimpl
    from tisslm.training.evaluation import evaluate
    from tisslm.training.trainer import Trainer
    from tisslm.workflows.build.trainer import build_trainer
    from tisslm.workflows.embedding import TextEmbedder, load_encoder
    from tisslm.workflows.load_model import load_model

__all__ = [
    "AdapterConfig",
    "EmaConfig",
    "Entry",
    "GroupConfig",
    "Sampling",
    "TextDataset",
    "TextEmbedder",
    "TextEncoder",
    "TissLMError",
    "TokenDataset",
    "Trainer",
    "TrainingConfig",
    "Transformer",
    "TransformerConfig",
    "Tuning",
    "__version__",
    "blas_threads",
    "build_trainer",
    "evaluate",
    "generate",
    "hookimpl",
    "load_encoder",
    "load_model",
]

_HOMES = {
    "AdapterConfig": "tisslm.config",
    "EmaConfig": "tisslm.config",
    "Entry": "tisslm.registry.hookspecs",
    "GroupConfig": "tisslm.config",
    "Sampling": "tisslm.models.generation",
    "TextDataset": "tisslm.datasets.text",
    "TextEmbedder": "tisslm.workflows.embedding",
    "TextEncoder": "tisslm.models.encoder.text_encoder",
    "TissLMError": "tisslm.errors",
    "TokenDataset": "tisslm.datasets.tokens",
    "Trainer": "tisslm.training.trainer",
    "TrainingConfig": "tisslm.config",
    "Transformer": "tisslm.models.transformer",
    "TransformerConfig": "tisslm.config.model.transformer",
    "Tuning": "tisslm.models.tuning.tuning",
    "blas_threads": "tisslm.ops.threads",
    "build_trainer": "tisslm.workflows.build.trainer",
    "evaluate": "tisslm.training.evaluation",
    "generate": "tisslm.models.generation",
    "hookimpl": "tisslm.registry.hookspecs",
    "load_encoder": "tisslm.workflows.embedding",
    "load_model": "tisslm.workflows.load_model",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from tisslm.registry.discovery import tisslm_version

        return tisslm_version()
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tisslm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

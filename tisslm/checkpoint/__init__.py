"""Checkpoints and run directories: a checkpoint is whole or absent, and verified before use.

``checkpoint-N/`` holds ``model.safetensors`` and ``config.json``, which Hugging Face transformers
reads where it has the model's family (``model_files``), or in place of the first the adapters
that were trained beside a model, as PEFT has them, and ``base.json``; ``optimizer.safetensors``,
``trainer_state.json``, ``trainer.safetensors`` (the losses), the tokenizer when the run has one,
and ``manifest.json`` with size and SHA-256 of each (``files``).
Nothing is ever unpickled.

The package does not interpret the states: their owners write and read them
(``tisslm.training.snapshot``).
"""

from __future__ import annotations

from tisslm.checkpoint.files import (
    ADAPTER,
    ADAPTER_CONFIG,
    BASE,
    CONFIG,
    EMA,
    MODEL,
    OPTIMIZER,
    REFERENCE,
    TRAINER,
    TRAINER_ARRAYS,
    ArraysFile,
    File,
    JsonFile,
)
from tisslm.checkpoint.finding import (
    Found,
    Where,
    best,
    directories,
    find,
    find_newest,
    list_checkpoints,
    newest,
    resolve,
)
from tisslm.checkpoint.manifest import DamagedError, Manifest, Problem, read_manifest
from tisslm.checkpoint.model_files import model_settings, with_our_names
from tisslm.checkpoint.reading import check_parameters, read
from tisslm.checkpoint.record import Checkpoint
from tisslm.checkpoint.retention import Retention, clean, prune
from tisslm.checkpoint.tokenizer_files import (
    TOKENIZER_FILES,
    read_tokenizer,
    tokenizer_files,
    tokenizer_state,
)
from tisslm.checkpoint.verification import problems, unlisted, verify
from tisslm.checkpoint.writing import set_aside, write
from tisslm.system.durable import FileRecord

__all__ = [
    "ADAPTER",
    "ADAPTER_CONFIG",
    "BASE",
    "CONFIG",
    "EMA",
    "MODEL",
    "OPTIMIZER",
    "REFERENCE",
    "TOKENIZER_FILES",
    "TRAINER",
    "TRAINER_ARRAYS",
    "ArraysFile",
    "Checkpoint",
    "DamagedError",
    "File",
    "FileRecord",
    "Found",
    "JsonFile",
    "Manifest",
    "Problem",
    "Retention",
    "Where",
    "best",
    "check_parameters",
    "clean",
    "directories",
    "find",
    "find_newest",
    "list_checkpoints",
    "model_settings",
    "newest",
    "problems",
    "prune",
    "read",
    "read_manifest",
    "read_tokenizer",
    "resolve",
    "set_aside",
    "tokenizer_files",
    "tokenizer_state",
    "unlisted",
    "verify",
    "with_our_names",
    "write",
]

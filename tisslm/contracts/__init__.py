"""Every interface of TissLM, a module for each kind of part.

A part keeps exactly one of these contracts. Classes are abstract here and final where they are
implemented; a plugin imports what it needs from ``tisslm.contracts``. Letters in array names are
those of ``docs/notation.md``: B batch, T time, N = B*T, C channels, V vocabulary, P parameters.
"""

from tisslm.config.metric_types import Family, Figure, Metric
from tisslm.config.metrics import FAMILIES
from tisslm.contracts.batch import (
    IGNORE_INDEX,
    Batch,
    Buffer,
    PassContext,
    RunInfo,
    chunk_rows,
    target_weights,
)
from tisslm.contracts.communicator import Communicator
from tisslm.contracts.data import Dataset, Tokenizer
from tisslm.contracts.embedding import EmbeddingLoss, PooledBatch, PooledValue, TextBatch
from tisslm.contracts.encoder import Encoder
from tisslm.contracts.exchange import AdapterExchange, Exchange
from tisslm.contracts.layer import Layer, Norm
from tisslm.contracts.metric_values import Histogram, Text
from tisslm.contracts.model import Decoder, Model, ModelFamily
from tisslm.contracts.network import ModelConfig, Network
from tisslm.contracts.observers import Monitor, Sink
from tisslm.contracts.optimization import Loss, Optimizer, Scheduler, UpdateMeter
from tisslm.contracts.pass_observer import PassObserver
from tisslm.contracts.preference import (
    AnyLoss,
    PairBatch,
    PreferenceLoss,
    PreferenceValue,
    ScoredPairs,
)
from tisslm.contracts.rows import Rows
from tisslm.contracts.stateful import Stateful

__all__ = [
    "FAMILIES",
    "IGNORE_INDEX",
    "AdapterExchange",
    "AnyLoss",
    "Batch",
    "Buffer",
    "Communicator",
    "Dataset",
    "Decoder",
    "EmbeddingLoss",
    "Encoder",
    "Exchange",
    "Family",
    "Figure",
    "Histogram",
    "Layer",
    "Loss",
    "Metric",
    "Model",
    "ModelConfig",
    "ModelFamily",
    "Monitor",
    "Network",
    "Norm",
    "Optimizer",
    "PairBatch",
    "PassContext",
    "PassObserver",
    "PooledBatch",
    "PooledValue",
    "PreferenceLoss",
    "PreferenceValue",
    "Rows",
    "RunInfo",
    "Scheduler",
    "ScoredPairs",
    "Sink",
    "Stateful",
    "Text",
    "TextBatch",
    "Tokenizer",
    "UpdateMeter",
    "chunk_rows",
    "target_weights",
]

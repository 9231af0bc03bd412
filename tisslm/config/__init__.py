"""Configuration: the sections of a run, where their values come from, and errors in one sentence.

``TrainingConfig`` is what Python users give to a ``Trainer``; ``RunConfig`` is what ``tisslm
train`` reads.
"""

from __future__ import annotations

from tisslm.config.aliases import ConfigNote
from tisslm.config.data import DataSection, SourceTable
from tisslm.config.model import ModelSection
from tisslm.config.run import RunConfig
from tisslm.config.sections import AdapterConfig, EmaConfig, GroupConfig, LogSection, Part
from tisslm.config.training import TrainingConfig

__all__ = [
    "AdapterConfig",
    "ConfigNote",
    "DataSection",
    "EmaConfig",
    "GroupConfig",
    "LogSection",
    "ModelSection",
    "Part",
    "RunConfig",
    "SourceTable",
    "TrainingConfig",
]

"""A model from wherever it is: a run or a checkpoint of ours, or what somebody has published."""

from __future__ import annotations

from tisslm.workflows.open_model.checkpoints import tokenizer_of
from tisslm.workflows.open_model.opened import OpenModel
from tisslm.workflows.open_model.opening import open_model

__all__ = ["OpenModel", "open_model", "tokenizer_of"]

"""Evaluations: of a language model by the targets of windows, of an encoder by vectors of texts."""

from __future__ import annotations

from tisslm.training.evaluation.in_run import evaluate_model, evaluate_now
from tisslm.training.evaluation.texts import TextEvaluation, evaluate_texts
from tisslm.training.evaluation.tokens import Evaluation, evaluate

__all__ = [
    "Evaluation",
    "TextEvaluation",
    "evaluate",
    "evaluate_model",
    "evaluate_now",
    "evaluate_texts",
]

"""Evaluations: of a language model by targets or pairs, of an encoder by vectors of texts."""

from __future__ import annotations

from tisslm.training.evaluation.in_run import evaluate_model, evaluate_now
from tisslm.training.evaluation.pairs import PairEvaluation, evaluate_pairs
from tisslm.training.evaluation.texts import TextEvaluation, evaluate_texts
from tisslm.training.evaluation.tokens import Evaluation, evaluate

__all__ = [
    "Evaluation",
    "PairEvaluation",
    "TextEvaluation",
    "evaluate",
    "evaluate_model",
    "evaluate_now",
    "evaluate_pairs",
    "evaluate_texts",
]

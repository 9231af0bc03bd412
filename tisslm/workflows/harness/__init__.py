"""Evaluation on tasks, through the interface of lm-evaluation-harness (extra ``eval``).

``scoring`` computes log-probabilities and texts, ``adapter`` is what the harness sees, ``tasks``
runs it. Loss and accuracy on a text need none of it (``tisslm.training.evaluation``).

References
----------
https://github.com/EleutherAI/lm-evaluation-harness, docs/interface.md and docs/model_guide.md.
"""

from __future__ import annotations

from tisslm.workflows.harness.tasks import TaskResult, evaluate_tasks

__all__ = ["TaskResult", "evaluate_tasks"]

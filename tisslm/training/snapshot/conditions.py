"""The conditions of a run: what its bits depend on beside its state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tisslm import ops
from tisslm.config import TrainingConfig
from tisslm.contracts import Dataset
from tisslm.memory.grouping import described
from tisslm.registry.discovery import tisslm_version
from tisslm.training.components import Components

__all__ = ["Conditions"]


@dataclass(frozen=True)
class Conditions:
    """The conditions under which a run is made.

    Attributes
    ----------
    parts : Components
    config : TrainingConfig
    precision : {"fp32", "bf16", "fp16"}
        The precision of the passes.
    scheduler : mapping
        The schedule's settings.
    optimizer, loss : mapping
        Their options, before the first step.
    """

    parts: Components
    config: TrainingConfig
    precision: str
    scheduler: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    loss: Mapping[str, Any]
    _fingerprints: list[tuple[Dataset, str]] = field(default_factory=list, init=False)

    def as_json(self) -> dict[str, Any]:
        """Return them as a checkpoint keeps them."""
        parts, config = self.parts, self.config
        return {
            "version": tisslm_version(),
            "engine": ops.engine(),
            "precision": self.precision,
            "seed": config.seed,
            "model_seed": parts.model.seed,
            "batch_size": config.batch_size,
            "rows_per_update": config.rows_per_update,
            "reduction_parts": parts.reduction.share.parts,
            "windows": None if parts.dataset is None else len(parts.dataset),
            "data": self._fingerprint(parts.dataset),
            "validation_data": self._fingerprint(parts.val_dataset),
            "learning_rate": config.learning_rate,
            "max_grad_norm": config.max_grad_norm,
            "schedule": self._schedule(),
            "optimizer": _given(self.optimizer),
            "loss": _given(self.loss),
            **self._groups(),
            **({} if parts.average is None else {"ema": parts.average.config.model_dump()}),
        }

    def _groups(self) -> dict[str, dict[str, str]]:
        """Return what parameters have of their own, by name; nothing where none has anything."""
        parameters = self.parts.model.parameters
        found = {p.name: said for p in parameters if p.trainable and (said := described(p))}
        return {"groups": found} if found else {}

    def _schedule(self) -> dict[str, Any]:
        """Return what the learning rates follow from; its steps only where they depend on them."""
        found = {k: v for k, v in self.scheduler.items() if v is not None and k != "base_lr"}
        steps = self.parts.scheduler.max_steps
        return found if steps is None else {**found, "max_steps": steps}

    def _fingerprint(self, dataset: Dataset | None) -> str | None:
        """Return the fingerprint that a dataset had when it was first asked for.

        Later its files may be gone, and the run is to be saved all the same.
        """
        if dataset is None:
            return None
        known = self._fingerprints
        if not any(dataset is asked for asked, _ in known):
            known.append((dataset, dataset.fingerprint()))
        return next(text for asked, text in known if asked is dataset)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options but the rate, a condition of its own; words where JSON has no number."""
    return {
        k: str(v) if isinstance(v, float) and not math.isfinite(v) else v
        for k, v in options.items()
        if k != "base_lr"
    }

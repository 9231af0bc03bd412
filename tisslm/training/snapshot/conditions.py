"""The conditions of a run: what its bits depend on beside its state."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tisslm import ops
from tisslm.config import TrainingConfig
from tisslm.contracts import Dataset
from tisslm.memory.grouping import described
from tisslm.registry.discovery import tisslm_version
from tisslm.training.components import Components

__all__ = ["Conditions", "warn_if_bits_differ"]

#: Conditions that are tables, and what the names of their values begin with in messages.
_TABLES = {
    "schedule": "scheduler.",
    "groups": "group of ",
    "ema": "ema.",
    "optimizer": "optimizer.",
    "loss": "loss.",
}

#: The one that is compared also where only the checkpoint has it.
_WHERE_ANY = frozenset({"groups"})

#: Those of parts, which earlier checkpoints do not have.
_OF_PARTS = ("optimizer", "loss")

#: Parameters of other groups that a warning names.
MOST_NAMED = 3


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


def warn_if_bits_differ(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Say why a resumed run may not equal the uninterrupted one."""
    saved, now = _of_same_parts(saved, now)
    then, now = _flat(saved, now), _flat(now, now)
    names = sorted({*then, *now}, key=[*now, *then].index)
    pairs = [(name, then.get(name), now.get(name)) for name in names]
    changed = [f"{k}: {old} then, {new} now" for k, old, new in pairs if old != new]
    if changed:
        changed = _few_groups(changed)
        is_rate = any(k.startswith("scheduler.") for k, old, new in pairs if old != new)
        rates = "; the learning rates follow the new schedule from here on" if is_rate else ""
        warnings.warn(
            f"the run goes on under other conditions ({'; '.join(changed)}): it will not equal "
            f"the uninterrupted run bit for bit{rates}",
            RuntimeWarning,
            stacklevel=3,
        )


def _of_same_parts(
    saved: Mapping[str, Any], now: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return both without the options of parts that are not of one name.

    Of another loss its name is left; another optimizer is refused by its state.
    """
    then, now = dict(saved), dict(now)
    for kind in _OF_PARTS:
        old, new = then.get(kind), now[kind]
        if isinstance(old, Mapping) and old.get("name") == new["name"]:
            continue
        del now[kind]
        if isinstance(old, Mapping) and kind == "loss":
            then[kind], now[kind] = {"name": old.get("name")}, {"name": new["name"]}
    return then, now


def _few_groups(changed: list[str]) -> list[str]:
    """Return what has changed, with the parameters of other groups counted behind the first few."""
    of_groups = [said for said in changed if said.startswith(_TABLES["groups"])]
    left_out = of_groups[MOST_NAMED:]
    found = [said for said in changed if said not in left_out]
    if left_out:
        found.insert(found.index(of_groups[MOST_NAMED - 1]) + 1, f"and {len(left_out)} more")
    return found


def _flat(values: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the wanted values; those of a table by dotted names."""
    found = {name: values.get(name) for name in wanted if name not in _TABLES}
    for name, called in _TABLES.items():
        table = values.get(name) if name in wanted or name in _WHERE_ANY else None
        if isinstance(table, Mapping):  # a checkpoint may have anything in its place
            found |= {f"{called}{key}": value for key, value in table.items()}
    return found

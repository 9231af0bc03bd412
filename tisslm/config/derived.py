"""Keys of other trainers that become ours by arithmetic with further settings, after the merge.

Keys that only have another name are in ``aliases``.
"""

from __future__ import annotations

from tisslm.config.aliases import note
from tisslm.config.fields import show
from tisslm.config.model import preset
from tisslm.config.sources import DEFAULT_RUN, Tables
from tisslm.config.training import TrainingConfig
from tisslm.errors import ConfigError

__all__ = ["DERIVED", "derive"]

#: The keys, all of ``[training]``, with what each becomes.
DERIVED = {"max_tokens": "max_steps"}


def derive(tables: Tables) -> None:
    """Replace the keys of ``DERIVED`` by our keys, computed from the merged settings, with a note.

    Raises
    ------
    ConfigError
        If a value is no number of at least 1, or does not divide into whole micro-batches.
    """
    training = tables.values.get("training", {})
    if "global_batch_size" in training:
        _fit_micro_batches(tables, training["global_batch_size"])
    for key, ours in DERIVED.items():
        if key not in training:
            continue
        value = training.pop(key)
        origin = tables.origins.pop(f"training.{key}", "")
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 1:
            raise _refused(key, "a number >= 1", value, origin)
        found = -(-int(value) // _tokens_per_step(tables))
        note(f"training.{key} = {show(value)} is read as training.{ours} = {found}", stacklevel=5)
        training[ours] = found
        tables.origins[f"training.{ours}"] = origin


def _number(tables: Tables, section: str, key: str, default: int) -> int:
    value = tables.values.get(section, {}).get(key, default)
    return value if isinstance(value, int) and value >= 1 else default


def _fit_micro_batches(tables: Tables, value: object) -> None:
    """Let a batch size that nobody gave be the largest that divides the rows of an update."""
    default = TrainingConfig.model_fields["batch_size"].default
    rows = _number(tables, "training", "batch_size", default)
    if not isinstance(value, int) or value < 1 or value % rows == 0:
        return
    origin = tables.origins.get("training.global_batch_size", "")
    if tables.origins.get("training.batch_size", DEFAULT_RUN) != DEFAULT_RUN:
        raise _refused("global_batch_size", f"a multiple of batch_size = {rows}", value, origin)
    rows = next(n for n in range(min(rows, value), 0, -1) if value % n == 0)
    tables.values["training"]["batch_size"] = rows
    note(f"training.batch_size = {rows}, to divide global_batch_size", stacklevel=5)


def _tokens_per_step(tables: Tables) -> int:
    default = TrainingConfig.model_fields["batch_size"].default
    rows = _number(tables, "training", "batch_size", default)
    rows *= _number(tables, "training", "gradient_accumulation_steps", 1)
    rows = _number(tables, "training", "global_batch_size", rows)
    name = tables.values.get("model", {}).get("preset", "char-tiny")
    try:
        sizes = preset(str(name))
    except ConfigError:  # a family's own preset, or none
        sizes = preset("char-tiny")
    return rows * _number(tables, "model", "seq_len", sizes["seq_len"])


def _refused(key: str, what: str, value: object, origin: str) -> ConfigError:
    set_by = f" (set by {origin})" if origin else ""
    return ConfigError(f"training.{key}: expected {what}, got {show(value)}{set_by}")

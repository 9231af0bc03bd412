"""Which settings of weaker sources are dropped because a stronger source contradicts them.

Values that only parts, presets or data can tell to be wrong give way in
``tisslm.workflows.build.settling``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tisslm.config.aliases import note
from tisslm.config.durations import KEYS as DURATIONS
from tisslm.config.fields import show
from tisslm.config.model import FAMILIES, FROM, KEPT_WITH_FROM
from tisslm.config.sections import Grouping
from tisslm.config.sources import DEFAULT_RUN, Setting, Tables

__all__ = ["RIVALS", "Rival", "drop_rivals", "start_afresh"]


@dataclass(frozen=True)
class Rival:
    """A pair of keys of which the first repeats the second, or makes it meaningless.

    Attributes
    ----------
    key : str
        The key that a source sets.
    gives_way : str
        The key that is then dropped from the weaker sources.
    only : object
        The value that it must have there to be dropped; None for any.
    """

    key: str
    gives_way: str
    only: object = None


#: All pairs of keys that contradict or repeat each other.
RIVALS: tuple[Rival, ...] = (
    Rival("training.epochs", "training.max_steps"),
    Rival("training.epochs", "training.max_tokens"),
    Rival("training.max_steps", "training.max_tokens"),
    Rival("training.max_tokens", "training.max_steps"),
    Rival("training.global_batch_size", "training.gradient_accumulation_steps"),
    Rival("training.gradient_accumulation_steps", "training.global_batch_size"),
    Rival("training.precision", "training.use_mixed_precision"),
    Rival("training.use_mixed_precision", "training.precision", "fp32"),
    Rival("training.resume", "training.resume_from"),
    Rival("training.resume_from", "training.resume"),
    Rival("scheduler.min_lr", "scheduler.min_lr_ratio"),
    Rival("scheduler.min_lr_ratio", "scheduler.min_lr"),
    Rival("tokenizer.path", "tokenizer.vocab_size"),
    Rival("tokenizer.vocab_size", "tokenizer.path"),
    Rival("data.path", "data.sources"),
    Rival("data.sources", "data.path"),
    Rival("data.sources", "data.valid_path"),
    *(Rival(f"{section}.{key}", f"durations.{key}") for key, section in DURATIONS.items()),
    Rival("training.epochs", "durations.max_steps"),
    Rival("training.max_tokens", "durations.max_steps"),
)

#: Values that mean "not set": they drop no other setting, and dropping them needs no note.
_SILENT: tuple[object, ...] = (-1, "", [])


def drop_rivals(tables: Tables, settings: Sequence[Setting]) -> None:
    """Drop the settings of weaker sources that these settings contradict, with a note.

    Two rivals in one source both stay, and are judged where the values are read.
    """
    given = {".".join(setting.path): setting.value for setting in settings}
    for rival in RIVALS:
        section, key = rival.gives_way.split(".")
        table = tables.values.get(section, {})
        if given.get(rival.key, "") in _SILENT or rival.gives_way in given or key not in table:
            continue
        if rival.only is not None and table[key] != rival.only:
            continue
        said = f"{rival.key} = {show(given[rival.key])} counts"
        _leave_out(tables, section, [key], f"{said}: {rival.gives_way} = {show(table[key])}")


def start_afresh(
    tables: Tables, settings: Iterable[Setting], section: str, head: str, current: object
) -> None:
    """Drop the keys of a section if these settings give another value to its head.

    Parameters
    ----------
    tables : Tables
        The merged settings of the weaker sources.
    settings : iterable of Setting
    section, head : str
    current : object
        The head's value in the weaker sources.
    """
    new = [s.value for s in settings if s.path == (section, head)]
    if not new or new[-1] == current:
        return
    kept = {head, "family"}  # a preset is one of its family
    if head == FROM:  # of another model to start from, the same may be asked for
        kept = {head} if current is None else {head, *KEPT_WITH_FROM}
    if head == "preset" and tables.values.get(section, {}).get("family") in FAMILIES:
        kept.discard("family")  # and a built-in one says which
    if section == "optimizer":  # how parameters are trained is said for any optimizer
        kept |= set(Grouping.model_fields)
    dropped = [key for key in tables.values.get(section, {}) if key not in kept]
    said = f"{section}.{head} = {show(new[-1])} starts [{section}] afresh"
    if section == "data":  # a path is any dataset's, but that of the default run is a text's alone
        dropped = [k for k in dropped if tables.origins.get(f"data.{k}") == DEFAULT_RUN]
        said = ""
    _leave_out(tables, section, dropped, said and f"{said}: {', '.join(dropped)}")
    durations = [k for k in tables.values.get("durations", {}) if DURATIONS.get(k) == section]
    if section == "scheduler":  # whose numbers of steps are among what was dropped
        _leave_out(tables, "durations", durations, "")


def _leave_out(tables: Tables, section: str, keys: Iterable[str], said: str) -> None:
    """Delete keys from the tables, with a note if any of them had a value that says something."""
    values: list[Any] = []
    origins: set[str] = set()
    for key in keys:
        values.append(tables.values[section].pop(key))
        origins.add(tables.origins.pop(f"{section}.{key}", ""))
    if said and any(value not in _SILENT for value in values):
        sources = DEFAULT_RUN if origins == {DEFAULT_RUN} else "the weaker sources"
        note(f"{said} of {sources} left out", stacklevel=6)

"""Which settings give way to which: a stronger source's word takes back what contradicts it.

What does not live here: values that only parts, presets or data can tell to be wrong
(``tisslm.workflows.build.settling``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tisslm.config.aliases import note
from tisslm.config.fields import show
from tisslm.config.sources import DEFAULT_RUN, Setting, Tables

__all__ = ["RIVALS", "Rival", "drop_rivals", "start_afresh"]


@dataclass(frozen=True)
class Rival:
    """Two keys of which one says what the other says, too, or makes it mean nothing.

    Attributes
    ----------
    key : str
        What a source gives.
    gives_way : str
        What is then left out of the weaker sources.
    only : object
        The value of the weaker that gives way; None for any.
    """

    key: str
    gives_way: str
    only: object = None


#: Every such pair of keys.
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
)

#: Values that say nothing: they take nothing back, and leaving them out needs no note.
_SILENT: tuple[object, ...] = (-1, "", [])


def drop_rivals(tables: Tables, settings: Sequence[Setting]) -> None:
    """Leave out of weaker sources what these settings contradict, with a note.

    What one source gives itself stays, and is judged where the values are read.
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
    """Leave out the keys of a section if these settings give another value to its head.

    Parameters
    ----------
    tables : Tables
        Of the weaker sources.
    settings : iterable of Setting
    section, head : str
    current : object
        The head's value so far.
    """
    new = [s.value for s in settings if s.path == (section, head)]
    if not new or new[-1] == current:
        return
    kept = (head, "family")  # a preset is one of its family
    dropped = [key for key in tables.values.get(section, {}) if key not in kept]
    said = f"{section}.{head} = {show(new[-1])} starts [{section}] afresh"
    if section == "data":  # a path is any dataset's, but that of the default run is a text's alone
        dropped = [k for k in dropped if tables.origins.get(f"data.{k}") == DEFAULT_RUN]
        said = ""
    _leave_out(tables, section, dropped, said and f"{said}: {', '.join(dropped)}")


def _leave_out(tables: Tables, section: str, keys: Iterable[str], said: str) -> None:
    """Take keys out of the tables; say so, if there are words, and one of them said anything."""
    values: list[Any] = []
    for key in keys:
        values.append(tables.values[section].pop(key))
        tables.origins.pop(f"{section}.{key}", None)
    if said and any(value not in _SILENT for value in values):
        note(f"{said} of the weaker sources left out", stacklevel=6)

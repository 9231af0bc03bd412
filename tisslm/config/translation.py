"""Translating other trainers' settings to ours by value, before keys are renamed.

The tables are in ``counterparts``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from tisslm.config.aliases import note
from tisslm.config.counterparts import NO_COUNTERPART, VALUES, without_counterpart
from tisslm.config.fields import show
from tisslm.config.sources import Setting
from tisslm.errors import ConfigError

__all__ = ["translated"]

#: Tables of other trainers that correspond to a section here.
TABLES: dict[tuple[str, ...], str] = {
    ("training", "lr_scheduler_kwargs"): "scheduler",
    ("optimizer", "init_args"): "optimizer",
}

#: Keys whose values may also be names of parts here.
NAMES = {
    "training.lr_scheduler_type": "scheduler.name",
    "training.optim": "optimizer.name",
    "optimizer.class_path": "optimizer.name",
}


def translated(layer: Sequence[Setting]) -> Iterator[list[Setting]]:
    """Yield a layer with what other trainers' values imply, then the given layer without them.

    The implied settings form a weaker layer of their own, so that what is given beside them wins:
    Hugging Face's "linear" implies no warm-up, unless one is set.
    """
    implied: list[Setting] = []
    kept: list[Setting] = []
    for given in layer:
        for setting in _placed(given):
            found = _meaning(setting)
            implied += found or []
            kept += [setting] if found is None else []
    if implied:
        yield implied
    yield kept


def _placed(setting: Setting) -> Iterator[Setting]:
    """Yield a setting at the place of its section; a whole table is one for each of its keys."""
    path = setting.path
    if path[:1] == ("train",) and len(path) > 1:  # LitGPT's
        path = ("training", *path[1:])
    section = TABLES.get(path[:2])
    if section is None:
        yield replace(setting, path=path)
    elif len(path) > 2:
        yield replace(setting, path=(section, *path[2:]))
    elif isinstance(setting.value, Mapping):
        for key, value in setting.value.items():
            yield replace(setting, path=(section, str(key)), value=value, text=None)
    else:
        yield replace(setting, path=path)


def _meaning(setting: Setting) -> list[Setting] | None:
    """Return what a setting means here; None if it is not one of the tables'."""
    given = ".".join(setting.path)
    if given not in VALUES:
        nothing = setting.path[0] == "training" and len(setting.path) == 2
        return [] if nothing and without_counterpart(setting.path[1], setting.value) else None
    word = str(setting.value).lower() if isinstance(setting.value, bool) else setting.value
    meaning = VALUES[given].get(word) if isinstance(word, str) else None
    if meaning is None and without_counterpart(setting.path[-1], setting.value):
        return []
    if meaning is None and given in NAMES:
        return None if given != "optimizer.class_path" else _refuse(setting, given)
    if meaning is None:
        return _refuse(setting, given)
    for key, value in meaning.items():
        if given not in NAMES or key not in NAMES.values() or value != word:
            note(f"{given} = {show(word)} is read as {key} = {show(value)}", stacklevel=6)
    if given in NAMES and len(meaning) == 1 and meaning.get(NAMES[given]) == word:
        note(f"{given} is read as {NAMES[given]}", stacklevel=6)
    return [
        replace(setting, path=tuple(key.split(".")), value=value, text=None)
        for key, value in meaning.items()
    ]


def _refuse(setting: Setting, given: str) -> list[Setting]:
    advice = NO_COUNTERPART.get(setting.path[-1], "name a part of ours in optimizer.name")
    known = ", ".join(VALUES[given])
    raise ConfigError(
        f"{given}: expected one of {known}, got {show(setting.value)}; {advice}"
        + (f" (set by {setting.origin})" if setting.origin else "")
    )

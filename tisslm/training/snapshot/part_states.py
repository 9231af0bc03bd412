"""The states of parts that keep one from step to step: loss, datasets, monitors and sinks.

Those of optimizer and scheduler are in ``owners``.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tisslm import checkpoint
from tisslm.errors import CheckpointError, PluginError, TissLMError
from tisslm.registry import Registry
from tisslm.registry.hookspecs import KINDS
from tisslm.system.safe_files import show
from tisslm.training.components import Components

__all__ = ["load_part_states", "part_states"]

#: Parts that only look on: one that fails is named, and never stops the run.
OBSERVERS = ("monitor", "sink")


def part_states(parts: Components) -> dict[str, Any]:
    """Return the states of loss, datasets, monitors and sinks that have one, by kind and class.

    Parameters
    ----------
    parts : Components

    Raises
    ------
    PluginError
        If the state of a loss or a dataset is not plain JSON.
    """
    found = {}
    for key, name, part in parts.stateful():
        try:
            state = part.state()
            if state:
                found[key] = json.loads(json.dumps(state, allow_nan=False))
        except Exception as error:
            said = f"{name}: its state() is not plain JSON values ({type(error).__name__}: {error})"
            if not name.startswith(OBSERVERS):
                raise PluginError(f"{said}; the run cannot be saved without it") from error
            _warn(f"{said}; the checkpoint is written without it")
    return found


def load_part_states(
    parts: Components, saved: Mapping[str, Any], where: Path, registry: Registry
) -> None:
    """Give each part the state that it had, and say which state no part takes.

    Parameters
    ----------
    parts : Components
    saved : mapping
        What ``part_states`` returned.
    where : Path
        The checkpoint.
    registry : Registry
        It knows the names of parts, for messages about states that no part of the run takes.

    Raises
    ------
    CheckpointError
        If a loss or a dataset does not take its state, or these are no states.
    """
    if not isinstance(saved, Mapping):
        raise CheckpointError(
            f"{where / checkpoint.TRAINER.name}: expected the parts' states by name, got "
            f"{show(saved)}; use an earlier checkpoint"
        )
    left = dict(saved)
    for key, name, part in parts.stateful():
        if key not in left:
            continue
        try:
            part.load_state(left.pop(key))
        except Exception as error:
            said = (
                f"{where}: {name} does not take its saved state ({type(error).__name__}: {error})"
            )
            if not name.startswith(OBSERVERS):
                if isinstance(error, TissLMError):  # which says what to do
                    raise CheckpointError(f"{where}: {error}") from error
                raise CheckpointError(f"{said}; use the version it was saved with") from error
            _warn(f"{said} and begins without it")
    if left:
        lost = ", ".join(sorted(_called(key, registry) for key in left))
        _warn(f"{where}: has states of parts that this run is without: {lost}")


def _called(key: str, registry: Registry) -> str:
    """Return what messages call the part of a key: its name, if a part has that class."""
    kind, _, rest = key.removeprefix("validation ").partition(" ")
    if kind in KINDS:
        for part in registry.entries(kind):
            if rest.split(" ")[0] == part.class_name:
                return key.replace(part.class_name, part.entry.name)
    return key


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)

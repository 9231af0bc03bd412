"""Which parameters are not trained, by patterns of their names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from tisslm.errors import ConfigError
from tisslm.errors.suggestions import nearest
from tisslm.memory.parameters import Parameter
from tisslm.memory.specs import ParameterSpec

__all__ = ["check_frozen", "check_matches", "freeze", "matches"]

#: In which types frozen weights are kept, and what a specification calls them.
_STORED = {"fp32": "", "bf16": "bf16"}


def freeze(
    specs: Iterable[ParameterSpec], patterns: Sequence[str], precision: str = "fp32"
) -> list[ParameterSpec]:
    """Return specifications of which those whose names match a pattern are frozen.

    Parameters
    ----------
    specs : iterable of ParameterSpec
        Those that are frozen already stay so.
    patterns : sequence of str
        As file names are matched: ``*`` stands for anything, dots included.
    precision : {"fp32", "bf16"}
        How frozen weights are kept: as they are, or rounded, in two bytes an element. What is not
        read so (biases, norms, tables of positions) stays as it is.

    Returns
    -------
    list of ParameterSpec
        In the same order.

    Raises
    ------
    ConfigError
        If a pattern matches no name, nothing is left to train, or a type is not known or of no use.

    Examples
    --------
    >>> specs = [ParameterSpec("up.weight", (2, 2)), ParameterSpec("down.weight", (2, 2))]
    >>> [spec.trainable for spec in freeze(specs, ["up.*"])]
    [False, True]
    """
    if precision not in _STORED:
        raise ConfigError(
            f'training.frozen_precision: expected "fp32" or "bf16", got {precision!r:.60}'
        )
    found = list(specs)
    names = [spec.name for spec in found]
    check_matches("training.freeze", patterns, names)
    for i, spec in enumerate(found):
        frozen = not spec.trainable or matches(spec.name, patterns)
        stored = _STORED[precision] if frozen and spec.storable else ""
        found[i] = replace(spec, trainable=not frozen, stored=stored)
    if not any(spec.trainable for spec in found):
        raise ConfigError(
            f"training.freeze: expected something left to train, got {list(patterns)}, which match "
            f"all of {len(found)} parameters; leave some out"
        )
    if precision != "fp32" and not any(spec.stored for spec in found):
        raise ConfigError(
            f"training.frozen_precision: expected frozen matrices to keep in {precision}, got "
            "none; freeze some by training.freeze, or leave it out"
        )
    return found


def check_frozen(specs: Iterable[ParameterSpec | Parameter], patterns: Sequence[str]) -> None:
    """Check that what patterns match is frozen, of a model that was built before they were read.

    Parameters
    ----------
    specs : iterable of ParameterSpec or Parameter
    patterns : sequence of str

    Raises
    ------
    ConfigError
        If a pattern matches nothing, or something that is trained.
    """
    found = {spec.name: spec.trainable for spec in specs}
    check_matches("training.freeze", patterns, list(found))
    for pattern in patterns:
        matched = [name for name in found if fnmatchcase(name, pattern)]
        open_ = next((name for name in matched if found[name]), None)
        if open_ is not None:
            raise ConfigError(
                f"training.freeze: expected a model whose {open_} is frozen, as {pattern!r} says, "
                "got one that trains it; memory is laid out when a model is built, so give its "
                "constructor tuning=Tuning(freeze=[...])"
            )


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Tell whether a name is matched by any pattern, as file names are."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def check_matches(where: str, patterns: Sequence[str], names: Sequence[str]) -> None:
    """Check that each pattern matches a name.

    Parameters
    ----------
    where : str
        The setting that has the patterns, for messages.
    patterns, names : sequence of str

    Raises
    ------
    ConfigError
        If one matches none; the message has the nearest name.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = nearest(pattern, names, likeness=0.0)
            raise ConfigError(
                f"{where}: expected the name of a parameter or a pattern of names, got "
                f"{pattern!r:.200}, which matches none of {len(names)}; the nearest is {near!r}"
            )

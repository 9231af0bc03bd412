"""Options with which parts are built when they are checked, and arrays to check them on.

A class may declare its options: ``test_options`` is a sequence of mappings, each a set of options,
or a static method that makes files in a folder and returns such a sequence. A class without it is
built with its defaults, with examples for options that have none, and again with some well-known
options switched on.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Optimizer, UpdateMeter
from tisslm.errors import ConfigError
from tisslm.memory import Parameters, ParameterSpec

__all__ = [
    "copied",
    "descend",
    "make_parameters",
    "normal",
    "option_names",
    "option_sets",
    "set_gradients",
    "train",
]

Array = NDArray[Any]
Options = Mapping[str, Any]

#: Parameters of every kind that an optimizer must handle: matrices and vectors, decay and
#: none, two learning rates, padding after each, and one that is frozen.
SPECS = (
    ParameterSpec("embed.weight", (7, 5)),
    ParameterSpec("norm.weight", (5,), decay=False),
    ParameterSpec("up.weight", (11, 9)),
    ParameterSpec("up.bias", (11,), decay=False, lr_scale=0.5),
    ParameterSpec("frozen.weight", (3, 2), trainable=False),
)


def option_names(maker: Callable[..., Any], n_given: int) -> dict[str, inspect.Parameter]:
    """Return the options that a callable takes after its first ``n_given`` arguments."""
    parameters = list(inspect.signature(maker).parameters.values())
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name: p for p in parameters[n_given:] if p.kind in kinds}


def option_sets(
    cls: type[Any],
    given: Options | None,
    *,
    maker: Callable[..., Any] | None = None,
    n_given: int = 0,
    examples: Options | None = None,
    folder: Path | None = None,
    variants: Sequence[Options] = (),
) -> list[dict[str, Any]]:
    """Return the sets of options with which a class is built.

    Parameters
    ----------
    cls : type
    given : mapping, optional
        The caller's options; they are then the only set.
    maker : callable, optional
        The callable that takes the options, if it is not the class.
    n_given : int
        The number of arguments that come before the options.
    examples : mapping, optional
        Values for options without a default, or whose default is None; those without a default
        are taken beside the class's own, too.
    folder : Path, optional
        Where ``test_options`` may create files; only datasets get one.
    variants : sequence of mappings
        Further sets, each used if the class takes all of its options.

    Raises
    ------
    ConfigError
        If an option has neither a default nor an example.
    """
    if given is not None:
        return [dict(given)]
    own = getattr(cls, "test_options", None)
    if callable(own):
        if folder is None:
            raise ConfigError(
                f"{cls.__name__}.test_options: expected a sequence of mappings, got a function; "
                "only that of a dataset may be one"
            )
        own = own(folder)
    takes = option_names(maker or cls, n_given)
    if own is not None:
        needed = {name for name, known in takes.items() if known.default is known.empty}
        held = {name: value for name, value in (examples or {}).items() if name in needed}
        return [held | dict(options) for options in own]
    base: dict[str, Any] = {}
    for name, parameter in takes.items():
        if parameter.default is not parameter.empty and parameter.default is not None:
            continue
        if name in (examples or {}):
            base[name] = (examples or {})[name]
        elif parameter.default is parameter.empty:
            raise ConfigError(
                f"{cls.__name__}: option {name!r} has no default and the checks know no example; "
                "give options=, or set the class attribute test_options"
            )
    return [base, *(base | dict(more) for more in variants if set(more) <= set(takes))]


def normal(rng: np.random.Generator, shape: tuple[int, ...], size: float = 1.0) -> Array:
    """Draw normal numbers, float64 arrays whose values float32 holds exactly."""
    drawn = rng.standard_normal(shape, dtype=np.float32) * np.float32(size)
    return drawn.astype(np.float64)


def make_parameters(dtype: str, specs: Sequence[ParameterSpec] = SPECS) -> Parameters:
    """Make parameters with values of size 1 to 2, the same at every call and in either type."""
    parameters = Parameters(specs, dtype)
    rng = np.random.default_rng(7)
    for parameter in parameters:
        size = 1.0 + rng.random(parameter.shape, dtype=np.float32)
        parameter.data[...] = size * rng.choice((-1.0, 1.0), parameter.shape)
    return parameters


def set_gradients(parameters: Parameters, seed: int) -> None:
    """Overwrite every gradient by normal numbers, the same in either type."""
    rng = np.random.default_rng(100 + seed)
    for parameter in parameters:
        if parameter.trainable:
            parameter.grad_to_write()[0][...] = normal(rng, parameter.shape)


def train(optimizer: Optimizer, seeds: Iterable[int], movement: UpdateMeter | None = None) -> None:
    """Make one update for each seed, with random gradients."""
    for seed in seeds:
        optimizer.zero_grad()
        set_gradients(optimizer.parameters, seed)
        optimizer.step(movement)


def descend(optimizer: Optimizer, n_updates: int) -> tuple[float, float]:
    """Return ``sum (p - target)^2 / 2`` over what is trainable, before and after updates.

    Targets lie 1 to 2 further out than the parameters, so that decay alone cannot reach them.
    """
    parameters = optimizer.parameters
    trainable = [p for p in parameters if p.trainable]
    targets = [p.data + np.sign(p.data) * (1 + np.abs(np.sin(p.data))) for p in trainable]

    def loss() -> float:
        pairs = zip(trainable, targets, strict=True)
        return sum(0.5 * float(np.square(p.data - t, dtype=np.float64).sum()) for p, t in pairs)

    start = loss()
    for _ in range(n_updates):
        optimizer.zero_grad()
        for parameter, target in zip(trainable, targets, strict=True):
            parameter.grad_to_write()[0][...] = parameter.data - target
        optimizer.step()
    return start, loss()


def copied(state: Mapping[str, Array]) -> dict[str, Array]:
    """Copy a state, whose arrays may be views."""
    return {name: np.array(array) for name, array in state.items()}

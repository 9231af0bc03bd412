"""Which parameters are trained how: groups by patterns of names, and rates that fall with depth.

References
----------
J. Howard and S. Ruder, "Universal Language Model Fine-tuning for Text Classification", arXiv
1801.06146 (a learning rate of its own for each layer).
H. Bao and others, "BEiT: BERT Pre-Training of Image Transformers", arXiv 2106.08254 (how layers are
counted here; also so in timm).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from tisslm.errors import ConfigError
from tisslm.memory.freezing import check_matches, freeze, matches
from tisslm.memory.parameters import Parameter, ParameterGroup, Parameters
from tisslm.memory.specs import ParameterSpec

__all__ = ["Group", "arrange", "decay_by_layer", "described", "regroup", "summarized"]

#: What the name of a block's parameter begins with.
_BLOCK = re.compile(r"blocks\.(\d+)\.")


class Group(Protocol):
    """What is said of the parameters that a group has, which are those that no earlier one has."""

    @property
    def match(self) -> Sequence[str]:
        """Patterns of names, as of file names; one of them is enough."""

    @property
    def lr_scale(self) -> float | None:
        """Factor on the learning rate."""

    @property
    def weight_decay(self) -> float | None:
        """In place of the optimizer's, of all that is in the group."""

    @property
    def freeze(self) -> bool:
        """Whether they are not trained."""


def arrange(
    specs: Iterable[ParameterSpec],
    groups: Sequence[Group] = (),
    layer_decay: float = 1.0,
    frozen: Sequence[str] = (),
    precision: str = "fp32",
) -> list[ParameterSpec]:
    """Return specifications that say how each parameter is trained, if it is.

    Parameters
    ----------
    specs : iterable of ParameterSpec
    groups : sequence of Group
    layer_decay : float
        As ``decay_by_layer`` says.
    frozen : sequence of str
        Patterns of names of further parameters that are not trained.
    precision : {"fp32", "bf16"}
        How frozen weights are kept (``tisslm.memory.freezing``).

    Returns
    -------
    list of ParameterSpec
        In the same order.

    Raises
    ------
    ConfigError
        If a pattern matches nothing, a group changes nothing, or nothing is left to train.
    """
    given = list(specs)
    found = freeze(decay_by_layer(regroup(given, groups), layer_decay), frozen, precision)
    members = _members([spec.name for spec in found], groups)
    for number, group in enumerate(groups):
        asks = group.lr_scale is not None or group.weight_decay is not None
        own = [spec for spec, whose in zip(found, members, strict=True) if whose == number]
        if asks and not any(spec.trainable for spec in own):
            raise ConfigError(
                f"optimizer.groups[{number}]: expected something that is trained, got "
                f"{len(own)} parameters that are all frozen, such as {own[0].name}; leave it out"
            )
    return found


def regroup(specs: Iterable[ParameterSpec], groups: Sequence[Group]) -> list[ParameterSpec]:
    """Return specifications with what the first group that matches says of each.

    Parameters
    ----------
    specs : iterable of ParameterSpec
    groups : sequence of Group

    Raises
    ------
    ConfigError
        If a pattern matches no name, a group is left without a parameter, or nothing to train.

    Examples
    --------
    >>> from types import SimpleNamespace as Given
    >>> slow = Given(match=["up.*"], lr_scale=0.1, weight_decay=None, freeze=False)
    >>> rest = Given(match=["*"], lr_scale=None, weight_decay=0.0, freeze=False)
    >>> specs = [ParameterSpec("up.weight", (2, 2)), ParameterSpec("down.weight", (2, 2))]
    >>> [(spec.lr_scale, spec.weight_decay) for spec in regroup(specs, [slow, rest])]
    [(0.1, None), (1.0, 0.0)]
    """
    found = list(specs)
    names = [spec.name for spec in found]
    members = _members(names, groups)
    for number, group in enumerate(groups):
        check_matches(f"optimizer.groups[{number}].match", group.match, names)
        if number not in members:
            raise ConfigError(
                f"optimizer.groups[{number}].match: expected something that no earlier group has, "
                f"got {list(group.match)}; a parameter is in the first group that matches it, so "
                "put this one before"
            )
    for i, whose in enumerate(members):
        if whose is None:
            continue
        spec, group = found[i], groups[whose]
        scale = 1.0 if group.lr_scale is None else group.lr_scale
        decay = spec.weight_decay if group.weight_decay is None else group.weight_decay
        trained = spec.trainable and not group.freeze
        found[i] = replace(
            spec, lr_scale=spec.lr_scale * scale, weight_decay=decay, trainable=trained
        )
    if groups and not any(spec.trainable for spec in found):
        raise ConfigError(
            f"optimizer.groups: expected something left to train, got groups that freeze all of "
            f"{len(found)} parameters; leave some out"
        )
    return found


def decay_by_layer(specs: Iterable[ParameterSpec], decay: float) -> list[ParameterSpec]:
    """Return specifications whose learning rates fall from the head of a model to its embeddings.

    Of L blocks, number i (from 0) has ``decay^(L - i)``, embeddings have ``decay^(L + 1)``, and
    what follows the blocks (final norm, head, pooling) 1. Embeddings that are the head's matrix,
    too, are embeddings. It multiplies what a specification says.

    Parameters
    ----------
    specs : iterable of ParameterSpec
    decay : float
        In (0, 1]; 1 changes nothing.

    Raises
    ------
    ConfigError
        If it is out of range, or no name is that of a block's parameter.

    Examples
    --------
    >>> specs = [ParameterSpec(f"{name}.weight", (1,)) for name in ("blocks.0", "blocks.1", "head")]
    >>> [spec.lr_scale for spec in decay_by_layer(specs, 0.5)]
    [0.25, 0.5, 1.0]
    """
    found = list(specs)
    if not 0.0 < decay <= 1.0:
        raise ConfigError(
            f"optimizer.layer_decay: expected a number above 0 and up to 1, got {decay!r:.60}"
        )
    if decay == 1.0:
        return found
    blocks = [_BLOCK.match(spec.name) for spec in found]
    count = 1 + max((int(block[1]) for block in blocks if block), default=-1)
    if not count:
        raise ConfigError(
            "optimizer.layer_decay: expected a model of blocks, whose parameters are called "
            f"blocks.0.* and so on, got one whose first is {found[0].name}; leave it out, and give "
            "its parts an lr_scale by optimizer.groups"
        )
    for i, block in enumerate(blocks):
        above = count - int(block[1]) if block else 0
        if found[i].name.startswith("embedding."):
            above = count + 1
        found[i] = replace(found[i], lr_scale=found[i].lr_scale * decay**above)
    return found


def described(trained: Parameter | ParameterGroup) -> str:
    """Say what a parameter or a group has of its own; "" if it is trained as the run says.

    Examples
    --------
    >>> described(ParameterGroup(0, 16, decay=True, lr_scale=0.5, weight_decay=0.0))
    'lr_scale 0.5, weight_decay 0'
    """
    found = [] if trained.lr_scale == 1.0 else [f"lr_scale {trained.lr_scale:.6g}"]
    if trained.weight_decay is not None:
        found.append(f"weight_decay {trained.weight_decay:.6g}")
    return ", ".join(found)


def summarized(parameters: Parameters) -> dict[str, tuple[int, int]]:
    """Return how many parameters, and numbers, are trained in which way of their own.

    Parameters
    ----------
    parameters : Parameters

    Returns
    -------
    dict
        By what ``described`` says; empty where all are trained as the run says.
    """
    found: dict[str, tuple[int, int]] = {}
    for p in parameters:
        if p.trainable:
            names, numbers = found.get(described(p), (0, 0))
            found[described(p)] = names + 1, numbers + p.size
    return found if set(found) - {""} else {}


def _members(names: Iterable[str], groups: Sequence[Group]) -> list[int | None]:
    """Return the number of each parameter's group."""
    return [
        next((n for n, group in enumerate(groups) if matches(name, group.match)), None)
        for name in names
    ]

"""What the parts of a run must be for each other."""

from __future__ import annotations

import inspect

from tisslm.contracts import Network, Optimizer
from tisslm.contracts.part_names import name_of
from tisslm.errors import ConfigError
from tisslm.memory import Parameters
from tisslm.memory.shards import ParameterShard

__all__ = ["check_kept", "check_optimizer"]


def check_kept(where: str, part: object, contract: type) -> None:
    """Refuse an object that does not keep the contract of its place.

    Parameters
    ----------
    where : str
        Name of the argument, for messages.
    part : object
    contract : type

    Raises
    ------
    ConfigError
        If it is none.
    """
    if not isinstance(part, contract):
        raise ConfigError(
            f"Trainer: {where}: expected a tisslm.contracts.{contract.__name__}, got "
            f"{type(part).__name__}; derive its class from it"
        )


def check_optimizer(
    optimizer: Optimizer, updated: Parameters | ParameterShard, model: Network, size: int
) -> None:
    """Refuse an optimizer that cannot train a model's parameters as they are laid out.

    Parameters
    ----------
    optimizer : Optimizer
    updated : Parameters or ParameterShard
        What it is to update on this rank.
    model : Network
    size : int
        How many ranks there are.

    Raises
    ------
    ConfigError
        If it was made for others, or knows nothing of their weight decay or their rates.
    """
    _check_parameters(optimizer, updated, size)
    _check_decay(optimizer, model.parameters)
    _check_rates(optimizer, model)


def _check_parameters(
    optimizer: Optimizer, updated: Parameters | ParameterShard, size: int
) -> None:
    """Refuse an optimizer of other parameters than those that it is to update."""
    if optimizer.parameters is not updated:
        raise ConfigError(
            "optimizer: it was made for the parameters of another model"
            if size == 1
            else f"optimizer: {size} ranks share out the parameters, so it is built by the "
            "Trainer; give its name, or a pair of name and options"
        )


def _check_decay(optimizer: Optimizer, parameters: Parameters) -> None:
    """Refuse weight decay of some parameters where the optimizer knows of none."""
    decays = any(group.weight_decay is not None for group in parameters.groups)
    if decays and "weight_decay" not in inspect.signature(type(optimizer)).parameters:
        raise ConfigError(
            f"optimizer.groups: expected an optimizer that has a weight_decay, got "
            f"{name_of(optimizer)}, which has none; leave weight_decay out of its groups"
        )


def _check_rates(optimizer: Optimizer, model: Network) -> None:
    """Refuse an optimizer that the learning rates of a model's parameters are not made for."""
    if model.wants_scale_free and not optimizer.scale_free:
        raise ConfigError(
            "optimizer: expected one whose updates do not depend on the size of gradients, as "
            "adamw, adam and rmsprop are, since model.mup_base_width scales learning rates for "
            f"these, got {name_of(optimizer)}; take another one, or leave model.mup_base_width out"
        )

"""``Tuning``: which parameters of a model are trained how, and how those are kept that are not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tisslm.config.model import TransformerConfig
from tisslm.config.sections import AdapterConfig
from tisslm.memory import ParameterSpec
from tisslm.memory.grouping import Group, arrange
from tisslm.models.initialization import parameter_specs
from tisslm.models.tuning.adapters import with_adapters

__all__ = ["Tuning"]


@dataclass(frozen=True)
class Tuning:
    """What of a model is trained, and how; by default, all of it alike.

    Attributes
    ----------
    freeze : sequence of str
        Patterns of names of parameters that are not (``tisslm.memory.freezing``).
    frozen_precision : {"fp32", "bf16"}
        How frozen matrices are kept.
    adapter : AdapterConfig or None
        Adapters that are trained in place of everything else.
    groups : sequence of GroupConfig
        Learning rates and weight decay by patterns of names (``tisslm.memory.grouping``).
    layer_decay : float
        By how much the learning rate of each block is lower than of the one above it.

    Examples
    --------
    >>> from tisslm.config.model import TransformerConfig
    >>> config = TransformerConfig.preset("char-tiny", vocab_size=65)
    >>> specs = Tuning(freeze=["*"], adapter=None).specs
    >>> len([s for s in Tuning(freeze=["embedding.*"]).specs(config) if not s.trainable])
    2
    """

    freeze: Sequence[str] = ()
    frozen_precision: str = "fp32"
    adapter: AdapterConfig | None = None
    groups: Sequence[Group] = ()
    layer_decay: float = 1.0

    def specs(self, config: TransformerConfig) -> list[ParameterSpec]:
        """Return the specification of every parameter of a model of a shape, adapters included.

        Raises
        ------
        ConfigError
            If a pattern matches nothing, a group changes nothing, nothing is left to train, or the
            model has nowhere to put an adapter.
        """
        specs = list(parameter_specs(config))
        if self.adapter is not None:
            frozen = [replace(spec, trainable=False) for spec in specs]
            specs = with_adapters(frozen, config, self.adapter)
        if self == Tuning():
            return specs
        return self.arranged(specs)

    def arranged(self, specs: Iterable[ParameterSpec]) -> list[ParameterSpec]:
        """Return specifications of which each says how it is trained, if it is.

        Raises
        ------
        ConfigError
            As ``tisslm.memory.grouping.arrange`` does.
        """
        how = self.groups, self.layer_decay, self.freeze, self.frozen_precision
        return arrange(specs, *how)

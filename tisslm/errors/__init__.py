"""The exceptions of TissLM: one class for each kind of thing a user can mend.

Every message says where, what was expected, what came, and what to do.
"""

from __future__ import annotations

from tisslm.errors.visible import visible

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "NoTextError",
    "NonFiniteError",
    "PluginError",
    "RanksError",
    "RunDirectoryError",
    "ShapeError",
    "SinkError",
    "SpikeError",
    "TissLMError",
]


class TissLMError(Exception):
    """Base class of every error that TissLM raises on purpose.

    As text, it has no character that acts on a terminal, whatever it quotes.

    Attributes
    ----------
    is_told : bool
        Whether another process tells the same, so that this one need not.
    """

    is_told: bool = False

    def __str__(self) -> str:
        return visible(super().__str__())


class ConfigError(TissLMError):
    """A setting is unknown, of the wrong type, out of range, or contradicts another."""


class RunDirectoryError(ConfigError):
    """The directory of a run is no longer where the run began."""


class PluginError(TissLMError):
    """A registered part is unknown, claimed twice, broken, or breaks its contract."""


class ShapeError(TissLMError):
    """An array has another shape, data type or layout than the part needs."""


class DataError(TissLMError):
    """A text, token or sample cannot be used: empty, too short, badly encoded, out of range."""


class NoTextError(DataError):
    """A tokenizer learns from a text, and there is none."""


class CheckpointError(TissLMError):
    """A checkpoint is missing, damaged, or made for another model."""


class NonFiniteError(TissLMError):
    """A loss, a gradient norm, or what was to be saved is not a finite number."""


class SpikeError(TissLMError):
    """A loss is far above those of the steps before."""


class RanksError(TissLMError):
    """The ranks of a run, which have to be alike, have come apart."""


class SinkError(TissLMError):
    """A sink could not take the metrics of a step, and the run is to end then."""

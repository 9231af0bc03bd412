"""One model at the border: its arrays and its configuration, ours and as transformers has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from numpy.typing import NDArray

from tisslm.config.model import TransformerConfig
from tisslm.contracts import Exchange
from tisslm.contracts.exchange import OWN
from tisslm.models.huggingface.arrays import Inward, Outward
from tisslm.models.huggingface.configuration import written

__all__ = ["FolderExchange", "exchange_of"]

Array = NDArray[Any]


@final
class FolderExchange(Exchange):
    """A shape, and the configuration of its class in transformers.

    Parameters
    ----------
    shape : TransformerConfig
    config : mapping
        What ``written`` returned for it.
    dtype : str
        The type of the parameters, which the configuration says, too.
    """

    def __init__(self, shape: TransformerConfig, config: Mapping[str, Any], dtype: str) -> None:
        self._shape = shape
        own = {"family": shape.family, **shape.values()}
        self._config = {**config, "torch_dtype": dtype, "dtype": dtype, OWN: own}

    @property
    def config(self) -> Mapping[str, Any]:
        """The content of ``config.json``; under ``tisslm``, our own settings."""
        return self._config

    def outward(self, arrays: Mapping[str, Array]) -> Outward:
        """Return parameters of ours by the names there."""
        return Outward(self._shape, arrays)

    def inward(self, arrays: Mapping[str, Array]) -> Inward:
        """Return arrays from there by our names."""
        return Inward(self._shape, arrays, f"{self._shape.family} model")


def exchange_of(shape: TransformerConfig, dtype: str = "float32") -> FolderExchange | None:
    """Return a model at the border; None if transformers has no class of its shape."""
    config = None if shape.embeds else written(shape)
    return None if config is None else FolderExchange(shape, config, dtype)

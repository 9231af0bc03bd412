"""The model family ``causal_conv``: configuration, parameters, and building a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, final

from tisslm.contracts import ModelFamily
from tisslm.errors import ConfigError
from tisslm.memory import Parameters, ParameterSpec
from tisslm_conv.config import ConvConfig
from tisslm_conv.model import ConvModel

__all__ = ["CausalConv"]


@final
class CausalConv(ModelFamily):
    """Token embeddings, dilated causal convolutions, and the embeddings again as output matrix."""

    def configure(self, /, **values: Any) -> ConvConfig:
        """Return the configuration for the keys of ``[model]``."""
        known = [field.name for field in fields(ConvConfig)]
        for key in values:
            if key not in known:
                raise ConfigError(f"model.{key}: unknown key. Known: {', '.join(known)}")
        for key in known:
            if key not in values:
                raise ConfigError(f"model.{key}: a value is needed; set it")
        return ConvConfig(**values)

    def parameters(self, config: ConvConfig) -> Iterator[ParameterSpec]:
        """Yield the specification of every parameter; weight decay applies to matrices."""
        channels = config.n_embd
        yield ParameterSpec("embedding.weight", (config.vocab_size, channels))
        for i in range(config.n_layer):
            yield ParameterSpec(f"layers.{i}.now", (channels, channels))
            yield ParameterSpec(f"layers.{i}.before", (channels, channels))
            yield ParameterSpec(f"layers.{i}.bias", (channels,), decay=False)

    def build(
        self,
        config: ConvConfig,
        *,
        seed: int = 42,
        dtype: str = "float32",
        parameters: Parameters | None = None,
    ) -> ConvModel:
        """Return a model, on the given parameters or on new ones with initial values."""
        if parameters is not None:
            return ConvModel(config, seed, parameters)
        made = ConvModel(config, seed, Parameters(self.parameters(config), dtype))
        made.draw_first_values()
        return made

    def with_layers(self, config: ConvConfig, n_layer: int) -> ConvConfig:
        """Return the configuration with another number of layers."""
        return replace(config, n_layer=n_layer)

"""The family ``causal_conv``: settings, parameters, and how a model is built."""

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
    """Token embeddings, dilated causal convolutions, and the embeddings as output matrix."""

    def configure(self, /, **values: Any) -> ConvConfig:
        """Return the shape that the keys of ``[model]`` describe."""
        known = [field.name for field in fields(ConvConfig)]
        for key in values:
            if key not in known:
                raise ConfigError(f"model.{key}: unknown key. Known: {', '.join(known)}")
        for key in known:
            if key not in values:
                raise ConfigError(f"model.{key}: a value is needed; set it")
        return ConvConfig(**values)

    def parameters(self, config: ConvConfig) -> Iterator[ParameterSpec]:
        """Name every parameter: matrices decay, biases do not."""
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
        """Return a model, on given parameters or on new ones with first values."""
        if parameters is not None:
            return ConvModel(config, seed, parameters)
        made = ConvModel(config, seed, Parameters(self.parameters(config), dtype))
        made.draw_first_values()
        return made

    def with_layers(self, config: ConvConfig, n_layer: int) -> ConvConfig:
        """Return the shape with another number of layers."""
        return replace(config, n_layer=n_layer)

"""The family ``gpt2``: learned positions, a layer norm before each sublayer, GELU in the MLP.

The model, which other families share, is in ``tisslm.models.transformer``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, final

from tisslm.config.presets import PRESETS
from tisslm.contracts import ModelFamily
from tisslm.memory import Parameters, ParameterSpec
from tisslm.models.initialization import parameter_specs
from tisslm.models.transformer import Transformer
from tisslm.models.transformer_config import TransformerConfig

__all__ = ["GPT2"]


@final
class GPT2(ModelFamily):
    """Decoder-only transformers like GPT-2.

    References
    ----------
    Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
    """

    presets = PRESETS

    def configure(self, /, **values: Any) -> TransformerConfig:
        """Return the configuration for settings; ``preset`` names one that other keys override."""
        preset = values.pop("preset", None)
        if preset is None:
            return TransformerConfig(**values)
        return TransformerConfig.preset(preset, **values)

    def parameters(self, config: TransformerConfig) -> Iterable[ParameterSpec]:
        """Return the specification of every parameter, in the order of the forward pass."""
        return parameter_specs(config)

    def build(
        self,
        config: TransformerConfig,
        *,
        seed: int = 42,
        dtype: str = "float32",
        parameters: Parameters | None = None,
    ) -> Transformer:
        """Return a Transformer with this configuration."""
        return Transformer(config, seed=seed, dtype=dtype, parameters=parameters)

    def with_layers(self, config: TransformerConfig, n_layer: int) -> TransformerConfig:
        """Return the configuration with another number of blocks."""
        return config.model_copy(update={"n_layer": n_layer})

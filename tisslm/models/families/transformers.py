"""What the families of transformers share: a shape from settings, and a model from a shape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from tisslm.config.model import TransformerConfig, presets_of
from tisslm.contracts import Exchange, ModelFamily
from tisslm.errors import ConfigError
from tisslm.memory import Parameters, ParameterSpec
from tisslm.models.encoder.text_encoder import TextEncoder
from tisslm.models.huggingface.exchange import exchange_of
from tisslm.models.initialization import parameter_specs
from tisslm.models.transformer import Transformer
from tisslm.models.tuning.tuning import Tuning

__all__ = ["TransformerFamily"]


class TransformerFamily(ModelFamily):
    """A family whose models are transformers of one kind; a subclass gives its name."""

    freezes = True

    #: The registered name, which shapes of the family carry.
    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.presets = presets_of(cls.name)

    def configure(self, /, **values: Any) -> TransformerConfig:
        """Return the shape for settings; ``preset`` names one that other keys override."""
        preset = values.pop("preset", None)
        if preset is None:
            return TransformerConfig(family=self.name, **values)
        return TransformerConfig.preset(preset, family=self.name, **values)

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
        tuning: Tuning | None = None,
    ) -> Transformer | TextEncoder:
        """Return a Transformer with this shape, or with ``pooling`` a TextEncoder.

        ``tuning`` says what of it is trained; what freezes an encoder is in its parameters.
        """
        if not config.embeds:
            return Transformer(config, seed=seed, dtype=dtype, parameters=parameters, tuning=tuning)
        if tuning is not None and tuning.adapter is not None:
            raise ConfigError(
                "[adapter]: expected a language model, got an encoder of texts, which trains all "
                "of its parameters or those that are not frozen; leave the section out"
            )
        return TextEncoder(config, seed=seed, dtype=dtype, parameters=parameters)

    def exchange(self, config: TransformerConfig, dtype: str = "float32") -> Exchange | None:
        """Return the model as Hugging Face transformers has it; None if no class has its shape."""
        return exchange_of(config, dtype)

    def with_layers(self, config: TransformerConfig, n_layer: int) -> TransformerConfig:
        """Return the shape with another number of blocks."""
        kinds = config.layer_types and config.layer_types[:n_layer]
        return config.model_copy(update={"n_layer": n_layer, "layer_types": kinds})

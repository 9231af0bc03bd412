"""A model of which all is known but its weights, which are read when it is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tisslm import checkpoint
from tisslm.config.model import TransformerConfig
from tisslm.contracts import ModelConfig, ModelFamily, Network, Tokenizer
from tisslm.errors import ConfigError
from tisslm.memory import Parameters
from tisslm.models.families.transformers import TransformerFamily
from tisslm.models.initialization import initialize
from tisslm.models.published import Published, fill, shape_of
from tisslm.models.transformer import Transformer
from tisslm.models.tuning.base import base_of
from tisslm.models.tuning.tuning import Tuning
from tisslm.workflows.build.tuned import build_tuned, specs_of

__all__ = ["OpenModel"]


@dataclass(frozen=True)
class OpenModel:
    """A model that can be built.

    Attributes
    ----------
    family : ModelFamily
    published : Published
        Its settings, and its weights by our names.
    dtype : {"float32", "float64"}
        The type of the model that is built.
    tokenizer : Tokenizer or None
    place : Found or None
        The checkpoint, if it is one of ours.
    """

    family: ModelFamily
    published: Published
    dtype: str
    tokenizer: Tokenizer | None
    place: checkpoint.Found | None = None

    @property
    def where(self) -> str:
        """The file or folder, for messages."""
        return self.published.where

    def shape(self, given: Mapping[str, Any]) -> ModelConfig:
        """Return the shape of the model, with some values replaced.

        Parameters
        ----------
        given : mapping
            For a built-in family: ``seq_len``, ``dropout``, and what makes an encoder of a
            language model, ``pooling`` and the keys that go with it.

        Raises
        ------
        CheckpointError
            If the weights are not those of such a model.
        ConfigError
            If a value cannot be replaced so.
        """
        if isinstance(self.family, TransformerFamily):
            return shape_of(self.published, given)
        if given:
            raise ConfigError(
                f"model.{next(iter(given))}: expected nothing beside model.from, since models of "
                f"{type(self.family).__name__} start as they are; leave it out"
            )
        values = {key: v for key, v in self.published.settings.items() if key != "family"}
        return self.family.configure(**values)

    def build(self, shape: ModelConfig, *, seed: int = 42, tuning: Tuning | None = None) -> Network:
        """Return the model, with its weights; what an encoder or adapters have beside is drawn.

        Parameters
        ----------
        shape : ModelConfig
            What ``shape`` has returned.
        seed : int
            Seed of what is drawn, and of every dropout mask.
        tuning : Tuning, optional
            What of it is trained; all of it if left out.
        """
        tuning = tuning or Tuning()
        specs = specs_of(self.family, shape, tuning)
        parameters = Parameters(specs, self.dtype, gradients_at_once=False)
        missing = fill(parameters, self.published)
        if isinstance(shape, TransformerConfig):
            initialize(missing, shape, seed)
        how = {"seed": seed, "dtype": self.dtype}
        model = build_tuned(self.family, shape, parameters, tuning, **how)
        if isinstance(model, Transformer) and tuning.adapter is not None:
            model.base = base_of(self.where if self.place is None else self.place.path)
        return model

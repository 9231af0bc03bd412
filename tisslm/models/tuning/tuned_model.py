"""A language model of which a part may be trained: how it comes to be, and its adapters.

What of it is trained is known before its parameters are laid out, so every way to a model leads
through ``Tuning``. What it computes is the model's own.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from tisslm.config.model import TransformerConfig
from tisslm.contracts import Model
from tisslm.errors import ConfigError
from tisslm.memory import Parameters, ShapeArena
from tisslm.models.body.over_body import OverBody
from tisslm.models.body.recomputation import Recomputation
from tisslm.models.initialization import initialize
from tisslm.models.layers.precision import Precision
from tisslm.models.pretrained import read_published
from tisslm.models.published import Published, fill, shape_of
from tisslm.models.tuning.base import Base, base_of
from tisslm.models.tuning.exchange import TunedAdapters
from tisslm.models.tuning.merging import merged_in_place
from tisslm.models.tuning.tuning import Tuning

__all__ = ["TunedModel"]


class TunedModel(OverBody, Model):
    """A model over a body, laid out by what of it is trained.

    A subclass takes ``(config, *, seed, dtype, parameters, tuning)``.

    Attributes
    ----------
    tuning : Tuning
    base : Base or None
        What is on the disk of the model that adapters are beside.
    """

    tuning: Tuning
    base: Base | None = None
    _is_merged = False

    @abstractmethod
    def __init__(
        self,
        config: TransformerConfig,
        *,
        seed: int = 42,
        dtype: str = "float32",
        parameters: Parameters | None = None,
        tuning: Tuning | None = None,
    ) -> None: ...

    @abstractmethod
    def _build(self, precision: Precision, recomputation: Recomputation) -> None:
        """Make anew what runs passes over the parameters, with buffers of its own."""

    @classmethod
    def of_shapes(
        cls, config: TransformerConfig, dtype: str = "float32", tuning: Tuning | None = None
    ) -> Self:
        """Return a model without memory, which has shapes and plans but cannot run passes."""
        specs = (tuning or Tuning()).specs(config)
        shapes = Parameters(specs, dtype, arena=ShapeArena)
        return cls(config, dtype=dtype, parameters=shapes, tuning=tuning)

    @classmethod
    def empty(
        cls,
        config: TransformerConfig,
        *,
        seed: int = 42,
        dtype: str = "float32",
        tuning: Tuning | None = None,
    ) -> Self:
        """Return a model whose parameters are zeros, for those who bring values.

        The memory of gradients is taken by the first backward.
        """
        specs = (tuning or Tuning()).specs(config)
        parameters = Parameters(specs, dtype, gradients_at_once=False)
        return cls(config, seed=seed, dtype=dtype, parameters=parameters, tuning=tuning)

    @classmethod
    def of_published(
        cls,
        published: Published,
        *,
        seed: int = 42,
        tuning: Tuning | None = None,
        **overrides: Any,
    ) -> Self:
        """Return a published model, with some values of its shape replaced.

        Parameters
        ----------
        published : Published
        seed : int
            Seed of every dropout mask, and of the first values of adapters.
        tuning : Tuning, optional
            What of it is trained; all of it if left out.
        **overrides
            ``seq_len``, smaller, or with rotary positions any, and ``dropout``.

        Raises
        ------
        CheckpointError
            If an array is missing, superfluous, of another shape or type; no memory is taken then.
        ConfigError
            If a value cannot be replaced so.
        """
        model = cls.empty(shape_of(published, overrides), seed=seed, tuning=tuning)
        initialize(fill(model.parameters, published), model.config, seed)  # adapters, if any
        return model

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        seed: int = 42,
        tuning: Tuning | None = None,
        **overrides: Any,
    ) -> Self:
        """Return the model of a folder that Hugging Face transformers or we saved, or of GGUF.

        Nothing is downloaded: ``path`` is on this machine. Weights are safetensors of float32,
        float16 or bfloat16, in one file or several, or a file whose name ends in ``.gguf``; they
        become float32 one piece at a time.

        Parameters
        ----------
        path : str or Path
        seed, tuning, **overrides
            As for ``of_published``.

        Raises
        ------
        CheckpointError
            If there is no such model, or its architecture is not known.
        ConfigError
            If a value cannot be replaced so.
        """
        published = read_published(path, any_dropout="dropout" in overrides, tokenizer=False)
        model = cls.of_published(published, seed=seed, tuning=tuning, **overrides)
        if model.tuning.adapter is not None:
            model.base = base_of(path)
        return model

    def adapters(self) -> TunedAdapters | None:
        """Return what checkpoints have in place of the model; None without adapters."""
        adapter = self.tuning.adapter
        return None if adapter is None else TunedAdapters(self.config, adapter, self.base)

    @contextmanager
    def merged(self) -> Iterator[Self]:
        """Merge the adapters into the weights, and take them out again.

        In ``with model.merged() as m``, ``m`` is a model over the same memory without adapters: it
        decodes as fast as one that never had any, and the model itself must not be used. Afterwards
        the weights have the bits that they had before. Without adapters, ``m`` is the model.

        Only weights that have adapters are kept meanwhile. Merged ones are rounded to the type in
        which the model is kept: with ``frozen_precision="bf16"``, by up to 2^-9 of themselves.

        Raises
        ------
        ConfigError
            If they are merged already.
        """
        adapter = self.tuning.adapter
        if adapter is None:
            yield self
            return
        if self._is_merged:
            raise ConfigError(
                "model.merged: expected adapters beside the weights, got them merged already; use "
                "the model that the first with statement gave"
            )
        other = copy.copy(self)
        other.tuning = Tuning()
        with merged_in_place(self.config, self.parameters, adapter):
            other._build(self.precision, self.body.recomputation)
            self._is_merged = True
            try:
                yield other
            finally:
                self._is_merged = False

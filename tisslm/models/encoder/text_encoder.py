"""The encoder of texts: the body of a transformer, and a vector of each text from its stream."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from numpy.typing import NDArray

from tisslm.config.model import TransformerConfig
from tisslm.contracts import Encoder, PassContext, TextBatch
from tisslm.contracts.pass_observer import enter, leave
from tisslm.errors import ConfigError, ShapeError
from tisslm.memory import Parameter, Parameters, ShapeArena
from tisslm.models.body.body import Body, made_parameters
from tisslm.models.body.over_body import OverBody
from tisslm.models.body.recomputation import Recomputation
from tisslm.models.encoder.vectors import Vectors, VectorsCache
from tisslm.models.initialization import initialize, parameter_specs
from tisslm.models.layers.linear import Linear
from tisslm.models.layers.precision import Precision
from tisslm.models.pretrained import read_published
from tisslm.models.published import fill, shape_of

__all__ = ["EncoderCache", "TextEncoder"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class EncoderCache:
    """What backward needs of a pass; valid until the next one."""

    ctx: PassContext
    vectors: VectorsCache


@final
class TextEncoder(OverBody, Encoder):
    """A transformer of a built-in family that makes a vector of each text.

    Parameters
    ----------
    config : TransformerConfig
        With ``pooling``.
    seed : int
        Seed of the initial values and of every dropout mask.
    dtype : {"float32", "float64"}
        Type of the parameters. float64 runs the NumPy twins, slowly, as a reference for float32.
    parameters : Parameters, optional
        Parameters to use unchanged, such as those of a checkpoint; initialized ones if left out.

    Examples
    --------
    >>> config = TransformerConfig.preset("char-tiny", vocab_size=65, pooling="mean")
    >>> model = TextEncoder(config)
    >>> texts = TextBatch.pack([np.array([3, 1, 4]), np.array([1, 5])], model.seq_len)
    >>> vectors, _ = model.embed(texts)
    >>> vectors.shape
    (2, 128)

    References
    ----------
    Reimers and Gurevych, "Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks", arXiv
    1908.10084.
    """

    def __init__(
        self,
        config: TransformerConfig,
        *,
        seed: int = 42,
        dtype: str = "float32",
        parameters: Parameters | None = None,
    ) -> None:
        if not config.embeds:
            raise ConfigError(
                'model.pooling: expected "mean", "last" or "max", got "none"; set it, or build a '
                "Transformer"
            )
        self.config: TransformerConfig = config
        self.family = config.family
        self.seed: int = seed
        self.normalized = config.normalize
        self.parameters = made_parameters(config, seed, dtype, parameters)
        projection = self.parameters.get("pooling.projection.weight")
        linear = None if projection is None else Linear(projection, None)
        self.vectors = Vectors(config.pooling, linear, config.normalize)
        self.body = self._planned_body(Precision.of("fp32", dtype), Recomputation())

    @classmethod
    def of_shapes(cls, config: TransformerConfig, dtype: str = "float32") -> TextEncoder:
        """Return a model without memory, which has shapes and plans but cannot run passes."""
        shapes = Parameters(parameter_specs(config), dtype, arena=ShapeArena)
        return cls(config, dtype=dtype, parameters=shapes)

    @classmethod
    def from_pretrained(cls, path: str | Path, *, seed: int = 42, **overrides: Any) -> TextEncoder:
        """Return an encoder that begins with the weights of a published model.

        Parameters
        ----------
        path : str or Path
            As for ``Transformer.from_pretrained``.
        seed : int
            Seed of what is not published, such as a projection, and of every dropout mask.
        **overrides
            ``pooling``, ``causal``, ``projection``, ``normalize``, ``logit_scale``; ``seq_len``
            and ``dropout``. A matrix of logits of its own is left out.

        Raises
        ------
        CheckpointError
            If there is no such model, or its architecture is not known.
        ConfigError
            If a value cannot be replaced so, or ``pooling`` is missing.
        """
        published = read_published(path, any_dropout="dropout" in overrides, tokenizer=False)
        config = shape_of(published, overrides)
        parameters = Parameters(parameter_specs(config), "float32", gradients_at_once=False)
        initialize(fill(parameters, published), config, seed)
        return cls(config, seed=seed, parameters=parameters)

    def _planned_body(self, precision: Precision, recomputation: Recomputation) -> Body:
        return Body(self.config, self.parameters, self.seed, precision, recomputation)

    # ------------------------------------------------------------------ preparation, sizes

    def prepare(self, *, precision: str = "fp32", activation_checkpointing: str = "none") -> None:
        """Choose how later passes are run, as ``Transformer.prepare`` does."""
        recomputation = Recomputation.parse(activation_checkpointing)
        self.body = self._planned_body(Precision.of(precision, self.dtype), recomputation)

    @property
    def embedding_size(self) -> int:
        """E: the projection's, or C where there is none."""
        return self.config.embedding_size

    @property
    def logit_scale(self) -> Parameter | None:
        """The learned logarithm of 1 / temperature."""
        return self.parameters.get("pooling.logit_scale")

    def flops_per_token(self, time: int) -> int:
        """Return a training step's operations per token, if each is run forward once.

        6 for each parameter of the layers, fewer for those that are frozen (``product_flops``), and
        those of attention as of one text in a row.
        """
        others = (p.name for p in self.parameters if not p.name.startswith("blocks."))
        return self.body.product_flops(*others) + self.body.attention_flops(time)

    # ------------------------------------------------------------------ passes

    def embed(
        self, texts: TextBatch, *, train: bool = False, gradient: bool = False, first_row: int = 0
    ) -> tuple[Array, EncoderCache | None]:
        """Compute the vectors of P texts, and the cache for ``backward_embedded``.

        Parameters
        ----------
        texts : TextBatch
        train : bool
            Whether dropout is applied.
        gradient : bool
            Whether a backward may follow.
        first_row : int
            What dropout counts the batch's rows from.

        Returns
        -------
        embeddings_PE : ndarray of shape (P, E), the model's dtype
            A new array.
        cache : EncoderCache or None

        Raises
        ------
        ShapeError, DataError
            If there are no token ids, or rows are longer than ``seq_len``.
        """
        observers = self.observers
        buffers, ctx = self.body.forward(
            texts.x_BT,
            train=train,
            first_row=first_row,
            start=texts.start_BT,
            gradient=gradient,
            computed=int(texts.stop_P.max()),  # behind the last text is padding
            observers=observers,
        )
        enter(observers, "pooling", "forward")
        found = self.vectors.forward(buffers.own["hidden"], texts, self.dtype)
        leave(observers, "pooling", "forward", {"embeddings": found.vectors_PE})
        return self.vectors.in_order(found), EncoderCache(ctx, found) if gradient else None

    def backward_embedded(self, d_embeddings_PE: Array, cache: EncoderCache) -> None:
        """Add the gradients of all parameters, given the gradient by the vectors.

        Parameters
        ----------
        d_embeddings_PE : ndarray of shape (P, E), the model's dtype
        cache : EncoderCache
            The cache of the last ``embed``.

        Raises
        ------
        ShapeError
            If it is of another pass, or the gradient of another shape or type.
        """
        expected = (len(cache.vectors.order_P), self.embedding_size)
        if d_embeddings_PE.shape != expected or d_embeddings_PE.dtype != self.dtype:
            raise ShapeError(
                f"model.backward_embedded: expected d_embeddings of shape {expected} "
                f"{self.dtype}, got {d_embeddings_PE.shape} {d_embeddings_PE.dtype}"
            )
        observers = self.observers
        buffers = self.body.take(cache.ctx, "model.backward_embedded")
        dh_NC = buffers.own["dh"]
        enter(observers, "pooling", "backward")
        self.vectors.backward(d_embeddings_PE, cache.vectors, dh_NC)
        leave(observers, "pooling", "backward", {"d_hidden": dh_NC})
        self.body.backward(buffers, cache.ctx, observers)

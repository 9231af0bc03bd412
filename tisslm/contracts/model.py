"""A language model, the family that builds it, and what continues texts with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts.batch import Batch
from tisslm.contracts.exchange import Exchange
from tisslm.contracts.network import ModelConfig, Network
from tisslm.errors import ConfigError

if TYPE_CHECKING:
    from tisslm.memory import Parameters, ParameterSpec
from tisslm.contracts.optimization import Loss

__all__ = [
    "Decoder",
    "Model",
    "ModelFamily",
    "TargetLosses",
    "language_model",
    "predicting_model",
]

FloatArray = NDArray[Any]
IntArray = NDArray[Any]


@final
class TargetLosses(Loss):
    """Another loss, of one pass, which keeps the loss of each target.

    Parameters
    ----------
    loss : Loss
        One of logits.
    """

    def __init__(self, loss: Loss) -> None:
        self._loss = loss
        self._kept: list[FloatArray] = []

    def tile(
        self,
        logits_NV: FloatArray,
        targets_N: IntArray,
        weights_N: FloatArray,
        *,
        gradient: bool = True,
    ) -> FloatArray:
        """Compute the other loss, and keep it."""
        losses_N = self._loss.tile(logits_NV, targets_N, weights_N, gradient=gradient)
        self._kept.append(losses_N.astype(np.float64))
        return losses_N

    def taken(self, shape: tuple[int, ...]) -> FloatArray:
        """Return the losses of all targets of the pass, times their weights, in float64.

        Parameters
        ----------
        shape : tuple of int
            (B, T) of the pass.
        """
        kept, self._kept = self._kept, []
        return np.concatenate(kept).reshape(shape)


class Decoder(ABC):
    """B sequences that a model continues token by token, each as if it were alone."""

    @abstractmethod
    def prefill(self, tokens_BT: IntArray, lengths_B: IntArray | None = None) -> FloatArray:
        """Start anew from B prompts and return the logits after them, of shape (B, V).

        Parameters
        ----------
        tokens_BT : ndarray of shape (B, T)
            A prompt in each row, padded on the right with any ids.
        lengths_B : ndarray of shape (B,), optional
            Tokens of each prompt, from 1 to T; None: T in each.
        """

    @abstractmethod
    def restart(self, row: int, tokens_T: IntArray) -> FloatArray:
        """Start one sequence anew and return the logits after it, (V,); the others stay."""

    @property
    @abstractmethod
    def full_B(self) -> IntArray:
        """Which sequences have no room for another token, as flags of shape (B,)."""

    @abstractmethod
    def step(self, ids_B: IntArray) -> FloatArray:
        """Append one token to each sequence and return the logits after it, of shape (B, V).

        An id of -1 is for a sequence that has ended: it stays as it is, and its row of the result
        is anything.

        Raises
        ------
        ShapeError
            If the context of a sequence that goes on is full.
        """


class Model(Network):
    """A language model: token ids in, logits out, gradients left in ``parameters``."""

    #: Whether ``decoder`` is written, so that the model can write text.
    writes_text: bool = False

    #: Whether what follows a token takes part in its logits: the targets of a loss of next tokens
    #: are then in sight, so such a model cannot learn from one, be measured by one, or write.
    sees_ahead: bool = False

    @abstractmethod
    def forward(
        self, x: IntArray, *, train: bool = False, start: IntArray | None = None
    ) -> tuple[FloatArray, Any]:
        """Compute logits of shape (B, T, V) and the cache that ``backward`` needs.

        ``start``, of the shape of x, says where in its row the document of each token begins;
        None: a row is one document. The cache is good until the next forward; using a stale one
        is an error.
        """

    @abstractmethod
    def backward(self, d_logits: FloatArray, cache: Any) -> None:
        """Add the parameters' gradients, given the loss's gradient by the logits."""

    @abstractmethod
    def step_loss(
        self,
        batch: Batch,
        loss: Loss,
        *,
        gradient: bool = True,
        train: bool = True,
        first_row: int = 0,
    ) -> float:
        """Compute the batch's share of the loss, and the gradients, chunk by chunk.

        The same bits as ``forward``, ``loss.forward``, ``loss.backward`` and ``backward``, but
        the [B*T, V] logits are never stored.
        """

    def step_weighed(
        self,
        batch: Batch,
        loss: Loss,
        weigh: Callable[[FloatArray], FloatArray],
        *,
        train: bool = True,
        first_row: int = 0,
    ) -> None:
        """Add the gradients of something that follows from the losses of all targets of a batch.

        What a target counts in the gradient may then depend on the losses of others, such as those
        of the same answer. The default makes the forward pass twice, which has the same bits; a
        model that can keep what it has computed does not.

        Parameters
        ----------
        batch : Batch
        loss : Loss
            Of each target, from its logits.
        weigh : callable
            It is given the targets' losses times their weights, of shape (B, T) and float64, and
            returns the derivative of the whole by each of them, of the same shape.
        train, first_row
            As for ``step_loss``.
        """
        seen = TargetLosses(loss)
        self.step_loss(batch, seen, gradient=False, train=train, first_row=first_row)
        weighed = replace(batch, weights_BT=weigh(seen.taken(batch.y_BT.shape)))
        self.step_loss(weighed, loss, train=train, first_row=first_row)

    def read_logits(
        self, x: IntArray, start: IntArray | None = None
    ) -> Callable[[slice, FloatArray], None]:
        """Make a pass without dropout or gradient, and return what writes some of its logits.

        The default makes all of them at once; a model that makes them row by row need not.

        Parameters
        ----------
        x, start
            As for ``forward``.

        Returns
        -------
        callable
            Given a slice of the N = B*T rows and an array of shape (n, V) to be written. Good until
            the next pass.
        """
        logits_NV = self.forward(x, start=start)[0].reshape(-1, self.vocab_size)
        return lambda rows, out_NV: np.copyto(out_NV, logits_NV[rows])

    @property
    def cache_bytes(self) -> int:
        """Bytes that decoding one sequence of the longest T keeps; 0 where it keeps nothing."""
        return 0

    def decoder(self, weights: str = "fp32") -> Decoder:
        """Return a new decoder; a model that has one says ``writes_text = True``.

        Parameters
        ----------
        weights : {"fp32", "bf16"}
            What it reads for each token: the parameters, or a copy of the matrices that is rounded
            to bfloat16. A model may refuse all but "fp32".

        Raises
        ------
        ConfigError
            For weights that the model refuses; by the base.
        """
        raise ConfigError(
            f"model {type(self).__name__}: it has no decoder() of its own, so it can write no "
            "text. Write Model.decoder, or generate with a model that has it, such as Transformer"
        )


def language_model(model: Network, where: str) -> Model:
    """Return a model that has logits.

    Parameters
    ----------
    model : Network
    where : str
        What a message begins with.

    Raises
    ------
    ConfigError
        If it makes vectors of texts.
    """
    if not isinstance(model, Model):
        raise ConfigError(
            f"{where}: expected a language model, got one that makes vectors of texts "
            "(model.pooling), which has no logits; use tisslm embed, model.embed or "
            "evaluate_texts, or give another model"
        )
    return model


def predicting_model(model: Network, where: str) -> Model:
    """Return a language model that is to write text, to score it, or to learn to predict it.

    Parameters
    ----------
    model : Network
    where : str
        What a message begins with.

    Raises
    ------
    ConfigError
        If it makes vectors of texts, or its tokens see those that they are to predict.
    """
    found = language_model(model, where)
    if found.sees_ahead:
        raise ConfigError(
            f"{where}: expected a model whose tokens see only what stands before them, got one "
            "that is not causal, whose tokens see those that they are to predict; leave "
            "model.causal out, or set model.pooling, which makes vectors of texts"
        )
    return found


class ModelFamily(ABC):
    """A family of models: which settings a model is built from, and how.

    It is what ``[model] family`` names, what a checkpoint is loaded by, and what a plan asks for
    shapes. A family is built without arguments, and keeps nothing.
    """

    #: Settings by preset's name.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    #: Whether its models take parameters that are frozen (``ParameterSpec.trainable``): these have
    #: no gradient to write to.
    freezes: ClassVar[bool] = False

    @abstractmethod
    def configure(self, /, **values: Any) -> ModelConfig:
        """Return the shape that settings describe.

        The builder adds ``vocab_size`` from the tokenizer, 1 while it does not know it yet.

        Raises
        ------
        ConfigError
            For a setting that is unknown, missing or wrong.
        """

    @abstractmethod
    def parameters(self, config: Any) -> Iterable[ParameterSpec]:
        """Name every parameter of a model of this shape, one after another, and make none."""

    @abstractmethod
    def build(
        self,
        config: Any,
        *,
        seed: int = 42,
        dtype: str = "float32",
        parameters: Parameters | None = None,
    ) -> Network:
        """Return a model of this shape: a ``Model``, or an ``Encoder``.

        Parameters
        ----------
        config : ModelConfig
            What ``configure`` returned.
        seed : int
        dtype : {"float32", "float64"}
        parameters : Parameters, optional
            Used as they are, in place of new ones with first values: those of a checkpoint, or
            shapes without memory, of which a plan is made.
        """

    @final
    def of_shapes(self, config: Any, dtype: str = "float32") -> Network:
        """Return a model without memory: the sizes and plans of the real one, and no passes."""
        from tisslm.memory import Parameters, ShapeArena

        shapes = Parameters(self.parameters(config), dtype, arena=ShapeArena)
        return self.build(config, dtype=dtype, parameters=shapes)

    def exchange(self, config: Any, dtype: str = "float32") -> Exchange | None:
        """Return what ``Network.exchange`` of a model of this shape does, before there is one."""
        return None

    def with_layers(self, config: Any, n_layer: int) -> ModelConfig | None:
        """Return the shape with another number of layers, of which a plan measures two.

        None, the default, if the family cannot tell; speed is then not foretold.
        """
        return None

"""A model, the family that builds it, and what continues texts with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, final, runtime_checkable

from numpy.typing import NDArray

from tisslm.contracts.batch import (
    Batch,
)
from tisslm.contracts.exchange import Exchange
from tisslm.contracts.pass_observer import Observed
from tisslm.errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from tisslm.memory import Parameters, ParameterSpec
from tisslm.contracts.optimization import Loss

__all__ = [
    "Decoder",
    "Model",
    "ModelConfig",
    "ModelFamily",
]

FloatArray = NDArray[Any]
IntArray = NDArray[Any]


@runtime_checkable
class ModelConfig(Protocol):
    """The shape of a model: what its family builds it from."""

    @property
    def vocab_size(self) -> int:
        """V: the number of token ids."""

    @property
    def seq_len(self) -> int:
        """The longest T."""

    def values(self) -> dict[str, Any]:
        """Return every setting as plain JSON values, which ``ModelFamily.configure`` takes back."""


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


class Model(Observed, ABC):
    """A language model: token ids in, logits out, gradients left in ``parameters``.

    A model that announces the parts of its passes (``tisslm.contracts.pass_observer``) can be
    looked into.
    """

    parameters: Parameters

    #: Registered name of the family that builds this model again from ``config``; "" for a model
    #: that only the program that made it can build, whose checkpoints no command can load.
    family: str = ""

    #: Whether passes keep the documents of a row apart (``Batch.start_BT``).
    takes_documents: ClassVar[bool] = False

    #: Whether every pass asks each parameter for its values (``Parameter.data``) when it needs
    #: them, and none are kept for the next pass. With several ranks, they may then come back from
    #: those that have updated them while the pass goes on.
    asks_for_values: ClassVar[bool] = False

    #: Whether ``decoder`` is written, so that the model can write text.
    writes_text: ClassVar[bool] = False

    #: The shape that the family builds it from; None if it has none.
    config: ModelConfig | None = None

    #: Key of the first values and of every random draw; None if the model has no such key.
    seed: int | None = None

    @final
    def settings(self) -> dict[str, Any]:
        """Return family and shape as plain values, from which ``[model]`` builds it again.

        Empty for a model without ``config``; without ``family`` where no command can build it.

        Raises
        ------
        ConfigError
            If ``config`` cannot say its values.
        """
        if self.config is None:
            return {}
        if not isinstance(self.config, ModelConfig):
            raise ConfigError(
                f"model {type(self).__name__}: expected its config to have vocab_size, seq_len and "
                f"values(), as tisslm.contracts.ModelConfig says, got "
                f"{type(self.config).__name__}; write them, or call the attribute otherwise"
            )
        family = {"family": self.family} if self.family else {}
        return {**family, **self.config.values()}

    @property
    def dtype(self) -> str:
        """Element type of the parameters: "float32", or "float64" for a model on the twins."""
        return str(self.parameters.dtype)

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """V: the number of token ids."""

    @property
    @abstractmethod
    def seq_len(self) -> int:
        """The longest T that the model takes."""

    def prepare(self, *, precision: str = "fp32", activation_checkpointing: str = "none") -> None:
        """Fix how later passes run; no parameter changes, and earlier caches are stale."""
        asked = {"precision": precision, "activation_checkpointing": activation_checkpointing}
        if asked != {"precision": "fp32", "activation_checkpointing": "none"}:
            name = f"{type(self).__name__} has no prepare() of its own"
            raise ConfigError(f'{name}: expected only the defaults "fp32", "none", got {asked}')

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

    @final
    def check_start(self, start: IntArray | None, shape: tuple[int, ...]) -> None:
        """Refuse starts of documents if passes take none, or if their shape is not the tokens'."""
        if start is None:
            return
        if not self.takes_documents:
            raise ConfigError(
                f"model {type(self).__name__}: it does not keep the documents of a row apart "
                "(takes_documents is False). Use data of one document per row, or a model that "
                "does, such as Transformer"
            )
        if getattr(start, "shape", None) != shape:
            got = getattr(start, "shape", type(start).__name__)
            raise ShapeError(
                f"start: expected an array of the tokens' shape {shape}, the position in its row "
                f"at which the document of each token begins, got {got}"
            )

    def plan(
        self,
        batch: int,
        time: int,
        *,
        precision: str | None = None,
        activation_checkpointing: str | None = None,
    ) -> Mapping[str, int]:
        """Return the bytes of every buffer of a pass of shape (B, T), by name.

        ``layers.<i>.<name>`` is kept by layer i until its backward; other names with a dot are
        scratch that layers share; names without one are the model's own. For passes as ``prepare``
        would fix them; left out, as it has. Nothing is made or changed. The default, nothing,
        leaves passes out of memory plans.
        """
        return {}

    @property
    def layer_names(self) -> Sequence[str]:
        """Name the layers that ``plan`` numbers, as their parameters are named; none by default."""
        return ()

    @property
    def n_head(self) -> int:
        """H: heads of attention in a block, for what monitors of attention take; 0 if none."""
        return 0

    @property
    def thread_scratch(self) -> int:
        """Bytes of the kernels' scratch, for all threads together, once a pass was run."""
        return 0

    def flops_per_token(self, time: int) -> int | None:
        """Count the operations of a training step per token of rows of T; None where unknown."""
        return None

    @property
    def cache_bytes(self) -> int:
        """Bytes that decoding one sequence of the longest T keeps; 0 where it keeps nothing."""
        return 0

    def exchange(self) -> Exchange | None:
        """Return the model as Hugging Face transformers has it; None, the default, if it has not.

        It is asked for shapes too, so it needs no memory of parameters.
        """
        return None

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


class ModelFamily(ABC):
    """A family of models: which settings a model is built from, and how.

    It is what ``[model] family`` names, what a checkpoint is loaded by, and what a plan asks for
    shapes. A family is built without arguments, and keeps nothing.
    """

    #: Settings by preset's name.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

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
    ) -> Model:
        """Return a model of this shape.

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
    def of_shapes(self, config: Any, dtype: str = "float32") -> Model:
        """Return a model without memory: the sizes and plans of the real one, and no passes."""
        from tisslm.memory import Parameters, ShapeArena

        shapes = Parameters(self.parameters(config), dtype, arena=ShapeArena)
        return self.build(config, dtype=dtype, parameters=shapes)

    def exchange(self, config: Any, dtype: str = "float32") -> Exchange | None:
        """Return what ``Model.exchange`` of a model of this shape does, before there is one."""
        return None

    def with_layers(self, config: Any, n_layer: int) -> ModelConfig | None:
        """Return the shape with another number of layers, of which a plan measures two.

        None, the default, if the family cannot tell; speed is then not foretold.
        """
        return None

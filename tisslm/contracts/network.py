"""What every trained thing has: parameters, a shape, and plans of its passes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, final, runtime_checkable

from numpy.typing import NDArray

from tisslm.contracts.exchange import AdapterExchange, Exchange
from tisslm.contracts.pass_observer import Observed
from tisslm.errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from tisslm.memory import Parameters

__all__ = ["ModelConfig", "Network"]

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


class Network(Observed, ABC):
    """What is trained, whatever it computes: parameters, a shape, and plans of its passes.

    A language model is a ``Model``, what makes vectors of texts an ``Encoder``; both are called
    models where it makes no difference. One that announces the parts of its passes
    (``tisslm.contracts.pass_observer``) can be looked into.
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

    #: Whether the learning rates of its parameters (``lr_scale``) are made for optimizers whose
    #: updates do not depend on the size of gradients (``Optimizer.scale_free``), and for no others.
    wants_scale_free: bool = False

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
    def attention_scale(self) -> float | None:
        """What attention's scores are multiplied by, for the same; None for 1 / sqrt(D)."""
        return None

    @property
    def thread_scratch(self) -> int:
        """Bytes of the kernels' scratch, for all threads together, once a pass was run."""
        return 0

    def flops_per_token(self, time: int) -> int | None:
        """Count the operations of a training step per token of rows of T; None where unknown."""
        return None

    def exchange(self) -> Exchange | None:
        """Return the model as Hugging Face transformers has it; None, the default, if it has not.

        It is asked for shapes too, so it needs no memory of parameters.
        """
        return None

    def adapters(self) -> AdapterExchange | None:
        """Return what checkpoints have in place of the whole; None, the default, if nothing."""
        return None

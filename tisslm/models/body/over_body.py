"""What a model has of its body, whatever it puts above: sizes, plans and how passes are run."""

from __future__ import annotations

from abc import abstractmethod

from tisslm.config.model import TransformerConfig
from tisslm.contracts import Network
from tisslm.models.body.body import Body
from tisslm.models.body.recomputation import Recomputation
from tisslm.models.layers.precision import Precision

__all__ = ["OverBody"]


class OverBody(Network):
    """A model of a built-in family: a body, and what takes its normalized stream.

    Attributes
    ----------
    config : TransformerConfig
    seed : int
        Of the initial values and of every dropout mask.
    body : Body
        As ``prepare`` wants passes run.
    """

    config: TransformerConfig
    seed: int
    body: Body

    takes_documents = True
    asks_for_values = True

    @abstractmethod
    def _planned_body(self, precision: Precision, recomputation: Recomputation) -> Body:
        """Return another body, with room for what this model puts above it, and change nothing."""

    @property
    def precision(self) -> Precision:
        """The types of passes."""
        return self.body.precision

    @property
    def vocab_size(self) -> int:
        """V, the number of token ids."""
        return self.config.vocab_size

    @property
    def seq_len(self) -> int:
        """The longest T of a row, which may hold several texts."""
        return self.config.seq_len

    @property
    def n_head(self) -> int:
        """H, the number of attention heads in a block."""
        return self.config.n_head

    @property
    def attention_scale(self) -> float:
        """What products of queries and keys are multiplied by."""
        return self.config.attention_scale

    @property
    def layer_names(self) -> list[str]:
        """The names of the layers in ``plan``, which are those of their parameters."""
        return [name for name, _ in self.body.layers]

    @property
    def thread_scratch(self) -> int:
        """The bytes of the kernels' scratch, of all threads together."""
        return self.body.thread_scratch

    def plan(
        self,
        batch: int,
        time: int,
        *,
        precision: str | None = None,
        activation_checkpointing: str | None = None,
    ) -> dict[str, int]:
        """Return the bytes of every activation and scratch buffer of a pass, by name.

        ``layers.<i>.<name>`` is saved by a layer of a kept block, ``layers.<i>.stream`` is the
        stream before a recomputed block, and ``scratch.shared`` holds what is not in use at the
        same time: the layers' scratch with the block that is being recomputed and, of a language
        model, the chunk of logits.

        Parameters
        ----------
        batch, time : int
        precision, activation_checkpointing : str, optional
            As for ``prepare``; by default, the values it was called with. Nothing is changed.

        Raises
        ------
        ConfigError
            For a value that ``prepare`` refuses.
        """
        wanted, recomputation = self.precision, self.body.recomputation
        if precision is not None:
            wanted = Precision.of(precision, self.dtype)
        if activation_checkpointing is not None:
            recomputation = Recomputation.parse(activation_checkpointing)
        return self._planned_body(wanted, recomputation).plan(batch, time)

"""What makes vectors of texts, and learns from the gradient by these."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from tisslm.contracts.embedding import TextBatch
from tisslm.contracts.network import Network

if TYPE_CHECKING:
    from tisslm.memory import Parameter

__all__ = ["Encoder"]

FloatArray = NDArray[Any]


class Encoder(Network):
    """A text-embedding model: texts in, a vector of each out, gradients left in ``parameters``.

    Whatever it computes, a vector depends on its text alone: not on the texts beside it, nor on
    where in a row it lies, but for rounding and dropout.
    """

    #: Whether every vector has length 1.
    normalized: bool = False

    @property
    @abstractmethod
    def embedding_size(self) -> int:
        """E: the numbers of a vector."""

    @property
    def logit_scale(self) -> Parameter | None:
        """The learned logarithm of 1 / temperature, of shape (1,); None if there is none.

        It takes part in no pass: a loss is handed its value, and the gradient is added for it.
        """
        return None

    @abstractmethod
    def embed(
        self, texts: TextBatch, *, train: bool = False, gradient: bool = False, first_row: int = 0
    ) -> tuple[FloatArray, Any]:
        """Compute the vectors of P texts, and the cache that ``backward_embedded`` needs.

        Parameters
        ----------
        texts : TextBatch
        train : bool
            Whether dropout is applied.
        gradient : bool
            Whether a backward may follow.
        first_row : int
            What dropout counts the batch's rows from. The same texts, number and parameters have
            the same bits in every pass.

        Returns
        -------
        embeddings_PE : ndarray of shape (P, E), the parameters' type
            A new array.
        cache : object
            Good until the next pass; None without ``gradient``.
        """

    @abstractmethod
    def backward_embedded(self, d_embeddings_PE: FloatArray, cache: Any) -> None:
        """Add the parameters' gradients, given the loss's gradient by the vectors."""

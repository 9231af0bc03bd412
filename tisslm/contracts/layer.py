"""Sublayers of the residual stream, and the norms in them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from tisslm.contracts.batch import (
    Buffer,
    PassContext,
)
from tisslm.errors import ConfigError

if TYPE_CHECKING:
    pass

__all__ = [
    "Layer",
    "Norm",
]

FloatArray = NDArray[Any]


class Layer(ABC):
    """A sublayer of the residual stream: normalize, transform, drop out, add.

    ``forward`` and ``backward`` work in place on the stream and on its gradient. Every buffer
    they need is named by ``plan`` and handed in; they allocate none.
    """

    @abstractmethod
    def plan(self, shape: tuple[int, int]) -> Mapping[str, Buffer]:
        """Name the buffers for a pass of shape (B, T)."""

    @abstractmethod
    def forward(
        self,
        h_NC: FloatArray,
        saved: Mapping[str, FloatArray],
        scratch: Mapping[str, FloatArray],
        ctx: PassContext,
    ) -> None:
        """Add this sublayer's output to ``h_NC`` and leave in ``saved`` what backward needs."""

    @abstractmethod
    def backward(
        self,
        dh_NC: FloatArray,
        saved: Mapping[str, FloatArray],
        scratch: Mapping[str, FloatArray],
        ctx: PassContext,
    ) -> None:
        """Turn the gradient of the output into that of the input; accumulate parameters'."""

    def recompute(
        self,
        h_NC: FloatArray,
        saved: Mapping[str, FloatArray],
        scratch: Mapping[str, FloatArray],
        ctx: PassContext,
    ) -> None:
        """Leave in ``saved`` what ``forward`` left, as the last layer of a recomputed block.

        Nothing reads the stream afterwards, so a layer may write this method to spare its last
        product. The base calls ``forward``, which is always right.
        """
        self.forward(h_NC, saved, scratch, ctx)

    def shown(
        self,
        saved: Mapping[str, FloatArray],
        scratch: Mapping[str, FloatArray],
        ctx: PassContext,
    ) -> Mapping[str, FloatArray]:
        """Return what observers see after ``forward``: by the base, what was saved.

        A layer that saves something else than what it has used, in order to use it again, says here
        what it used. Arrays are good until the next layer runs.
        """
        return saved

    def cache_plan(self, batch: int, context: int) -> Mapping[str, Buffer]:
        """Name what ``decode`` keeps of B sequences of up to ``context`` tokens; the base: nothing.

        The arrays begin as zeros. Their ``kind`` says nothing here.
        """
        return {}

    def fill_cache(
        self, cache: Mapping[str, FloatArray], shown: Mapping[str, FloatArray], time: int
    ) -> None:
        """Keep in ``cache`` what ``decode`` needs of a prompt of T tokens; the base: nothing.

        Called after each ``forward`` of a prompt, with what the layer then has ``shown``.

        Raises
        ------
        ConfigError
            By the base, if ``cache_plan`` names arrays that nobody would fill.
        """
        if cache:
            raise ConfigError(
                f"layer {type(self).__name__}: cache_plan() names {', '.join(cache)}, and there is "
                "no fill_cache() that fills them from a prompt. Write Layer.fill_cache"
            )

    def decode(
        self, h_BC: FloatArray, cache: Mapping[str, FloatArray], position_B: FloatArray
    ) -> None:
        """Add this sublayer's output for one new token of each sequence, in place.

        Parameters
        ----------
        h_BC : ndarray of shape (B, C), IN/OUT
            The stream of the new tokens.
        cache : mapping of str to ndarray, IN/OUT
            The arrays of ``cache_plan``, with what earlier tokens left; this one's share is added.
        position_B : ndarray of int32 of shape (B,)
            How many tokens of each sequence came before.

        Raises
        ------
        ConfigError
            By the base: a layer that cannot decode is never passed over.
        """
        raise ConfigError(
            f"layer {type(self).__name__}: it has no decode(), so its model can write no text "
            "token by token. Write Layer.decode, or generate with a model that has it"
        )


class Norm(ABC):
    """A normalization of rows inside a sublayer. It alone knows the names of its buffers."""

    @abstractmethod
    def plan(self, rows: int, dtype: str, at_once: int | None = None) -> Mapping[str, Buffer]:
        """Name the buffers for N rows; each name begins with ``norm_``.

        Parameters
        ----------
        rows : int
        dtype : str
            Of what is saved.
        at_once : int, optional
            How many rows one call of ``backward`` gets; left out, all of them.
        """

    @abstractmethod
    def forward(
        self,
        h_NC: FloatArray,
        x_NC: FloatArray | None,
        y_NC: FloatArray,
        saved: Mapping[str, FloatArray],
        rows: slice = slice(None),
    ) -> None:
        """Write the normalized rows to ``y_NC``, and to ``saved`` what ``backward`` needs.

        ``x_NC`` receives the stream as it is kept for backward; it is what is normalized.
        """

    @abstractmethod
    def apply(self, h_BC: FloatArray, y_BC: FloatArray) -> None:
        """Write the normalized rows to ``y_BC``, and keep nothing."""

    @abstractmethod
    def recompute(
        self,
        x_NC: FloatArray,
        y_NC: FloatArray,
        saved: Mapping[str, FloatArray],
        rows: slice = slice(None),
    ) -> None:
        """Write the bits that ``forward`` wrote for these rows, from what it kept."""

    @abstractmethod
    def backward(
        self,
        dy_NC: FloatArray,
        x_NC: FloatArray,
        dres_NC: FloatArray | None,
        dx_NC: FloatArray,
        saved: Mapping[str, FloatArray],
        scratch: Mapping[str, FloatArray],
        rows: slice = slice(None),
    ) -> None:
        """Write dx, with the residual's gradient ``dres_NC`` added; accumulate parameters'."""

    @abstractmethod
    def statistics(self, saved: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Return those of the arrays that are the norm's: one number a row in each."""

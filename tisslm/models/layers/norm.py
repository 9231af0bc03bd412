"""The norms of a sublayer, by name: statistics are kept, outputs are computed again.

A norm is a class of ``Norm`` that names its parameters and is built over them, and a line of
``NORMS``: the key ``model.norm`` chooses among these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Buffer, Norm
from tisslm.memory import Parameter, Parameters, ParameterSpec, grads_to_write

__all__ = ["NORMS", "LayerNorm", "NormKind", "RMSNorm"]

Array = NDArray[Any]


class NormKind(Protocol):
    """What a class of ``NORMS`` has beside the contract of a norm: it can be built by name."""

    def parameters(self, name: str, channels: int, bias: bool) -> Iterator[ParameterSpec]:
        """Name the parameters of a norm over C channels; ``bias`` is whether it may have one."""

    def over(self, parameters: Parameters, name: str, eps: float) -> Norm:
        """Build a norm over those of its parameters that there are."""


@final
class LayerNorm(Norm):
    """Layer normalization of each row: y = (x - mean) / sqrt(var + eps) * gamma + beta.

    Parameters
    ----------
    gamma, beta : Parameter of shape (C,)
        beta may be None.
    eps : float
        Added to the variance.

    References
    ----------
    Ba, Kiros and Hinton, "Layer Normalization", arXiv 1607.06450.
    """

    def __init__(self, gamma: Parameter, beta: Parameter | None, eps: float) -> None:
        self.gamma = gamma
        self.beta = beta
        self.eps = eps

    @staticmethod
    def parameters(name: str, channels: int, bias: bool) -> Iterator[ParameterSpec]:
        """Name gamma, and beta if there is to be one; weight decay leaves both alone."""
        yield ParameterSpec(f"{name}.weight", (channels,), decay=False)
        if bias:
            yield ParameterSpec(f"{name}.bias", (channels,), decay=False)

    @classmethod
    def over(cls, parameters: Parameters, name: str, eps: float) -> LayerNorm:
        """Build the norm over its parameters."""
        return cls(parameters[f"{name}.weight"], parameters.get(f"{name}.bias"), eps)

    def plan(self, rows: int, dtype: str, at_once: int | None = None) -> dict[str, Buffer]:
        """Return the buffers: the statistics (saved) and the partial sums (scratch).

        ``at_once`` is how many rows one call of ``backward`` gets, all of them if left out.
        """
        channels = self.gamma.shape[0]
        blocks = -(-(at_once or rows) // 64)
        return {
            "norm_mean": Buffer((rows,), dtype, "saved"),
            "norm_rstd": Buffer((rows,), dtype, "saved"),
            "norm_partial": Buffer((2, blocks, channels), dtype, "scratch"),
        }

    def _bias(self) -> Array | None:
        return None if self.beta is None else self.beta.data

    def forward(
        self,
        h_NC: Array,
        x_NC: Array | None,
        y_NC: Array,
        saved: Mapping[str, Array],
        rows: slice = slice(None),
    ) -> None:
        """Write the normalized rows to ``y_NC`` and the statistics to ``saved``.

        ``x_NC`` receives the stream as it is stored for backward; these stored values are
        normalized.
        """
        ops.layer_norm_forward(
            h_NC,
            self.gamma.data,
            self._bias(),
            x_NC,
            y_NC,
            saved["norm_mean"][rows],
            saved["norm_rstd"][rows],
            self.eps,
        )

    def apply(self, h_BC: Array, y_BC: Array) -> None:
        """Write the normalized rows to ``y_BC`` and discard the statistics."""
        mean_B, rstd_B = (np.empty(len(h_BC), h_BC.dtype) for _ in range(2))
        ops.layer_norm_forward(
            h_BC, self.gamma.data, self._bias(), None, y_BC, mean_B, rstd_B, self.eps
        )

    def statistics(self, saved: Mapping[str, Array]) -> dict[str, Array]:
        """Return mean and reciprocal standard deviation of each row."""
        return {name: saved[name] for name in ("norm_mean", "norm_rstd")}

    def recompute(
        self, x_NC: Array, y_NC: Array, saved: Mapping[str, Array], rows: slice = slice(None)
    ) -> None:
        """Write the same bits for these rows as ``forward``, from what it saved."""
        ops.layer_norm_apply(
            x_NC,
            self.gamma.data,
            self._bias(),
            saved["norm_mean"][rows],
            saved["norm_rstd"][rows],
            y_NC,
        )

    def backward(
        self,
        dy_NC: Array,
        x_NC: Array,
        dres_NC: Array | None,
        dx_NC: Array,
        saved: Mapping[str, Array],
        scratch: Mapping[str, Array],
        rows: slice = slice(None),
    ) -> None:
        """Write dx, with the residual gradient ``dres_NC`` added; accumulate gamma's and beta's."""
        dgamma, dbeta, accumulate = grads_to_write(self.gamma, self.beta)
        ops.layer_norm_backward(
            dy_NC,
            x_NC,
            self.gamma.data,
            saved["norm_mean"][rows],
            saved["norm_rstd"][rows],
            dres_NC,
            dx_NC,
            dgamma,
            dbeta,
            scratch["norm_partial"],
            accumulate,
        )


@final
class RMSNorm(Norm):
    """Divide each row by its root mean square: y = x / sqrt(mean(x^2) + eps) * gamma.

    Parameters
    ----------
    gamma : Parameter of shape (C,)
    eps : float
        Added to the mean square.

    References
    ----------
    Zhang and Sennrich, "Root Mean Square Layer Normalization", arXiv 1910.07467.
    """

    def __init__(self, gamma: Parameter, eps: float) -> None:
        self.gamma = gamma
        self.eps = eps

    @staticmethod
    def parameters(name: str, channels: int, bias: bool) -> Iterator[ParameterSpec]:
        """Name gamma, which weight decay leaves alone; there is never a bias."""
        yield ParameterSpec(f"{name}.weight", (channels,), decay=False)

    @classmethod
    def over(cls, parameters: Parameters, name: str, eps: float) -> RMSNorm:
        """Build the norm over its parameter."""
        return cls(parameters[f"{name}.weight"], eps)

    def plan(self, rows: int, dtype: str, at_once: int | None = None) -> dict[str, Buffer]:
        """Name the statistics (saved) and the partial sums (scratch)."""
        blocks = -(-(at_once or rows) // 64)
        return {
            "norm_rstd": Buffer((rows,), dtype, "saved"),
            "norm_partial": Buffer((blocks, self.gamma.shape[0]), dtype, "scratch"),
        }

    def forward(
        self,
        h_NC: Array,
        x_NC: Array | None,
        y_NC: Array,
        saved: Mapping[str, Array],
        rows: slice = slice(None),
    ) -> None:
        """Write the normalized rows to ``y_NC`` and the statistics to ``saved``."""
        ops.rms_norm_forward(h_NC, self.gamma.data, x_NC, y_NC, saved["norm_rstd"][rows], self.eps)

    def apply(self, h_BC: Array, y_BC: Array) -> None:
        """Write the normalized rows to ``y_BC``; the statistics are thrown away."""
        rstd_B = np.empty(len(h_BC), h_BC.dtype)
        ops.rms_norm_forward(h_BC, self.gamma.data, None, y_BC, rstd_B, self.eps)

    def statistics(self, saved: Mapping[str, Array]) -> dict[str, Array]:
        """Return the reciprocal root mean square of each row."""
        return {"norm_rstd": saved["norm_rstd"]}

    def recompute(
        self, x_NC: Array, y_NC: Array, saved: Mapping[str, Array], rows: slice = slice(None)
    ) -> None:
        """Write the bits that ``forward`` wrote for these rows, from what it kept."""
        ops.rms_norm_apply(x_NC, self.gamma.data, saved["norm_rstd"][rows], y_NC)

    def backward(
        self,
        dy_NC: Array,
        x_NC: Array,
        dres_NC: Array | None,
        dx_NC: Array,
        saved: Mapping[str, Array],
        scratch: Mapping[str, Array],
        rows: slice = slice(None),
    ) -> None:
        """Write dx, with the residual's gradient ``dres_NC`` added; accumulate gamma."""
        dgamma, _, accumulate = grads_to_write(self.gamma, None)
        ops.rms_norm_backward(
            dy_NC,
            x_NC,
            self.gamma.data,
            saved["norm_rstd"][rows],
            dres_NC,
            dx_NC,
            dgamma,
            scratch["norm_partial"],
            accumulate,
        )


#: The norms of the built-in family, by what ``model.norm`` calls them.
NORMS: Mapping[str, NormKind] = MappingProxyType({"layer": LayerNorm, "rms": RMSNorm})

"""Adafactor: a matrix's second moments as one number for each row and one for each column."""

from __future__ import annotations

import math
from typing import Any, ClassVar, final

from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Optimizer
from tisslm.contracts.options import LEAST_EPS, flag, number
from tisslm.memory import Parameters
from tisslm_optimizers.arrays import Gauge, Kinds, nbytes_of, zeros
from tisslm_optimizers.maps import Map, Whole, check_whole, maps_of
from tisslm_optimizers.reference import adafactor as reference

__all__ = ["Adafactor", "adafactor_apply", "adafactor_moments", "adafactor_sizes"]

_MODULE = "tisslm_optimizers._kernels.adafactor"
adafactor_moments = ops.register(
    reference.adafactor_moments, f"{_MODULE}:adafactor_moments", part="optimizer"
)
adafactor_sizes = ops.register(
    reference.adafactor_sizes, f"{_MODULE}:adafactor_sizes", part="optimizer"
)
adafactor_apply = ops.register(
    reference.adafactor_apply, f"{_MODULE}:adafactor_apply", part="optimizer"
)

#: Runs of rows that a matrix's sums are cut into at most, whatever the number of threads.
RUNS = 64


@final
class Adafactor(Optimizer):
    """Update by the gradient over the root of factored second moments, without momentum.

    ``b = 1 - t^-decay_rate`` in update t (from 1); ``R = b R + (1 - b) (g^2 + eps1)``'s mean of
    each row, ``C`` that of each column; ``u = g / sqrt(R C / mean(R))``;
    ``u = u / max(1, rms(u) / clip_threshold)``; ``p = p - a u - lr weight_decay p``, with
    ``a = max(eps2, rms(p)) min(lr, 1 / sqrt(t))``, or without its first factor.

    A vector is a matrix of one column, of which that is the unfactored rule. A fused product is
    several maps, each factored for itself.

    Parameters
    ----------
    parameters : Parameters
    lr : float
        Learning rate, as a share of each map's root mean square; 0.01 is usual.
    decay_rate : float
        Of the running means, at least 0.
    eps1 : float
        Added to squares, at least 1e-30.
    eps2 : float
        Least root mean square of a map that its step is a share of.
    clip_threshold : float
        Largest root mean square of an update, before the learning rate.
    scale_parameter : bool
        Whether steps are shares of the map's root mean square; without it, learning rates are as
        those of AdamW.
    weight_decay : float
        Decay per update in units of the learning rate, for parameters that decay (matrices by
        default).

    Raises
    ------
    ConfigError
        If an option is out of range.

    Notes
    -----
    State: ``<parameter>/row``, ``<parameter>/column`` (one for each map) and ``step``. Beside it,
    64 sums for each column of the widest map are kept.

    References
    ----------
    Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost",
    arXiv 1804.04235, algorithms 4 and 6. ``eps1`` is added to squares, as in the paper; PyTorch
    has it elsewhere.
    """

    takes_grad_scale: ClassVar[bool] = True
    measures_movement: ClassVar[bool] = True
    elementwise: ClassVar[bool] = False
    test_options: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"scale_parameter": False})

    def __init__(
        self,
        parameters: Parameters,
        lr: float,
        *,
        decay_rate: float = 0.8,
        eps1: float = 1e-30,
        eps2: float = 1e-3,
        clip_threshold: float = 1.0,
        scale_parameter: bool = True,
        weight_decay: float = 0.0,
    ) -> None:
        check_whole("adafactor", parameters)
        super().__init__(parameters, lr)
        self.decay_rate = number("optimizer adafactor: decay_rate", decay_rate, 0)
        self.eps1 = number("optimizer adafactor: eps1", eps1, LEAST_EPS)
        self.eps2 = number("optimizer adafactor: eps2", eps2, 0)
        self.clip_threshold = number("optimizer adafactor: clip_threshold", clip_threshold, 1e-6)
        self.scale_parameter = flag("optimizer adafactor: scale_parameter", scale_parameter)
        self.weight_decay = number("optimizer adafactor: weight_decay", weight_decay, 0)
        self._maps = maps_of(parameters)
        self._state = zeros(_kinds(parameters))
        self._part_P = zeros(_room(parameters))["sums of columns"]
        self._gauge = Gauge(parameters, RUNS)

    def planned(self, parameters: Whole) -> dict[str, int]:
        """Return the bytes of the state, and of the sums that are kept."""
        return nbytes_of(_kinds(parameters)) | nbytes_of(_room(parameters))

    def update(self, grad_scale: float) -> None:
        """Make one update, map by map."""
        data_P, grad_P = self.parameters.data, self.parameters.grad
        t = int(self._state["step"][0]) + 1
        with self._gauge.told(self.movement):
            for one in self._maps:
                self._update_map(one, data_P[one.slice], grad_P[one.slice], t, grad_scale)
        self._state["step"] += 1

    def _update_map(
        self, one: Map, p_P: NDArray[Any], g_P: NDArray[Any], t: int, grad_scale: float
    ) -> None:
        shape, runs = (one.rows, one.columns), min(one.rows, RUNS)
        p_RC, g_RC = p_P.reshape(shape), g_P.reshape(shape)
        row_R = one.of(self._state[f"{one.parameter.name}/row"])
        column_C = self._state[f"{one.parameter.name}/column"][one.number]
        part_KC = self._part_P[: runs * one.columns].reshape(runs, one.columns)
        sums_K2 = self._gauge.sums(runs)
        adafactor_moments(
            g_RC, row_R, column_C, part_KC, t**-self.decay_rate, self.eps1, grad_scale
        )
        scale = 1.0 / float(row_R.mean(dtype="float64"))
        adafactor_sizes(p_RC, g_RC, row_R, column_C, sums_K2, scale, grad_scale)
        size, step = (math.sqrt(x / p_P.size) for x in sums_K2.sum(axis=0).tolist())
        lr = self.get_lr() * one.group.lr_scale
        rate = min(lr, 1.0 / math.sqrt(t)) / max(1.0, step / self.clip_threshold)
        if self.scale_parameter:
            rate *= max(self.eps2, size)
        pull = lr * one.group.decay_of(self.weight_decay)
        moved_K2 = sums_K2 if self._gauge.measures else None
        adafactor_apply(p_RC, g_RC, row_R, column_C, moved_K2, runs, scale, rate, pull, grad_scale)
        self._gauge.add(one.group, moved_K2)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return ``step``, and the means of rows and columns of each parameter."""
        return dict(self._state)


def _kinds(parameters: Whole) -> Kinds:
    found: dict[str, tuple[tuple[int, ...], Any]] = {"step": ((1,), "int64")}
    for one in maps_of(parameters):
        name, maps = one.parameter.name, max(1, len(one.parameter.blocks))
        rows = one.parameter.size // one.columns
        found[f"{name}/row"] = ((rows,), parameters.dtype)
        found[f"{name}/column"] = ((maps, one.columns), parameters.dtype)
    return found


def _room(parameters: Whole) -> Kinds:
    sums = max((min(m.rows, RUNS) * m.columns for m in maps_of(parameters)), default=0)
    return {"sums of columns": ((sums,), "float64")}

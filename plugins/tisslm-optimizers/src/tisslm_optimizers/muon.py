"""Muon: matrices move by their orthogonalized momentum, everything else by AdamW."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, ClassVar, final

from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import Optimizer
from tisslm.contracts.options import LEAST_EPS, count, flag, number, word
from tisslm.errors import ConfigError
from tisslm.errors.suggestions import did_you_mean
from tisslm.memory import Parameter, Parameters
from tisslm.memory.shards import ParameterShard, Piece
from tisslm_optimizers.arrays import BLOCK, Gauge, Kinds, nbytes_of, zeros
from tisslm_optimizers.maps import Map, Whole, check_whole, groups_of, maps_of
from tisslm_optimizers.newton_schulz import NewtonSchulz, muon_apply, muon_direction

__all__ = ["Muon"]

#: What a matrix's learning rate is multiplied by, by the name of the adjustment.
ADJUSTMENTS = {
    "match_rms_adamw": lambda rows, columns: 0.2 * math.sqrt(max(rows, columns)),
    "original": lambda rows, columns: math.sqrt(max(1.0, rows / columns)),
}


@final
class Muon(Optimizer):
    """Move matrices by their momentum with all singular values about 1, and the rest by AdamW.

    ``m = m + (1 - momentum) (g - m)``; ``u = m``, or ``m + (1 - momentum) (g - m)`` with
    ``nesterov``; ``p = p - lr (weight_decay p + s orthogonalized(u))``. ``s`` is
    ``0.2 sqrt(max(rows, columns))`` with ``adjust_lr = "match_rms_adamw"``, which makes a step as
    long as AdamW's are, and ``sqrt(max(1, rows / columns))`` with ``"original"``, whose learning
    rates are larger (0.02 is usual, and ``adamw_lr_scale`` 0.015 with it).

    The matrices of a fused product (queries, keys and values; gate and up) are orthogonalized
    each for itself.

    Parameters
    ----------
    parameters : Parameters
    lr : float
        Learning rate.
    momentum : float
        In [0, 1).
    nesterov : bool
        Look ahead along the momentum.
    weight_decay : float
        Decay per update in units of the learning rate, for parameters that decay (matrices by
        default), whoever updates them.
    adjust_lr : {"match_rms_adamw", "original"}
    ns_steps : int
        Steps of the orthogonalization.
    eps : float
        Least norm that a momentum is divided by.
    beta1, beta2, adamw_eps : float
        AdamW's options.
    adamw_lr_scale : float
        AdamW's learning rate as a share of Muon's.
    adamw : sequence of str
        Names of matrices that AdamW updates, with wildcards: rows of embeddings, and of the output
        projection, are looked up and not multiplied, or each stand for a token.

    Raises
    ------
    ConfigError
        If an option is out of range, or a name matches nothing.

    Notes
    -----
    State: ``<parameter>/momentum`` of matrices, ``<parameter>/m`` and ``<parameter>/v`` of all
    others, and ``step``. Beside it, two arrays of the largest matrix's size and two of its smaller
    side's square are kept for the products.

    References
    ----------
    Jordan and others, "Muon: An optimizer for hidden layers in neural networks",
    kellerjordan.github.io/posts/muon, 2024.
    Liu and others, "Muon is Scalable for LLM Training", arXiv 2502.16982 (``match_rms_adamw``).
    """

    takes_grad_scale: ClassVar[bool] = True
    measures_movement: ClassVar[bool] = True
    elementwise: ClassVar[bool] = False
    #: The default's steps are too short for the checks' learning rate and number of updates.
    test_options = (
        {"adjust_lr": "original"},
        {"adjust_lr": "original", "nesterov": False},
        {"adamw": ("*",)},
    )

    #: Where ``adamw`` is left out; a model need not have them all.
    ASIDE: ClassVar[tuple[str, ...]] = ("embedding*", "head*")

    def __init__(
        self,
        parameters: Parameters,
        lr: float,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.1,
        adjust_lr: str = "match_rms_adamw",
        ns_steps: int = 5,
        eps: float = 1e-7,
        beta1: float = 0.9,
        beta2: float = 0.95,
        adamw_eps: float = 1e-8,
        adamw_lr_scale: float = 1.0,
        adamw: Sequence[str] | None = None,
    ) -> None:
        check_whole("muon", parameters)
        super().__init__(parameters, lr)
        self.momentum = number("optimizer muon: momentum", momentum, 0, 1)
        self.nesterov = flag("optimizer muon: nesterov", nesterov)
        self.weight_decay = number("optimizer muon: weight_decay", weight_decay, 0)
        self.adjust_lr = word("optimizer muon: adjust_lr", adjust_lr, tuple(ADJUSTMENTS))
        steps = count("optimizer muon: ns_steps", ns_steps, 1)
        least = number("optimizer muon: eps", eps, LEAST_EPS)
        self.beta1 = number("optimizer muon: beta1", beta1, 0, 1)
        self.beta2 = number("optimizer muon: beta2", beta2, 0, 1)
        self.adamw_eps = number("optimizer muon: adamw_eps", adamw_eps, LEAST_EPS)
        self.adamw_lr_scale = number("optimizer muon: adamw_lr_scale", adamw_lr_scale, 0)
        self._aside = self.ASIDE if adamw is None else _names(adamw, parameters)
        self._maps = [m for m in maps_of(parameters) if self._is_matrix(m.parameter)]
        self._others = [(p, group) for p, group in groups_of(parameters) if not self._is_matrix(p)]
        self._state = zeros(self._kinds(parameters))
        shapes = [(m.rows, m.columns) for m in self._maps]
        self._orthogonalized = NewtonSchulz(shapes, parameters.dtype, steps, least)
        longest = max((p.size for p in parameters if p.trainable), default=0)
        self._gauge = Gauge(parameters, -(-longest // BLOCK))

    def _is_matrix(self, p: Parameter | Piece) -> bool:
        """Tell whether a parameter is Muon's."""
        return len(p.shape) == 2 and not any(fnmatchcase(p.name, name) for name in self._aside)

    def _kinds(self, parameters: Whole) -> Kinds:
        found: dict[str, tuple[tuple[int, ...], Any]] = {"step": ((1,), "int64")}
        for p in parameters:
            if p.trainable:
                for slot in ("momentum",) if self._is_matrix(p) else ("m", "v"):
                    found[f"{p.name}/{slot}"] = (p.shape, parameters.dtype)
        return found

    def planned(self, parameters: Whole) -> dict[str, int]:
        """Return the bytes of the state, and of what the products need."""
        shapes = [(m.rows, m.columns) for m in maps_of(parameters) if self._is_matrix(m.parameter)]
        room = NewtonSchulz.planned(shapes, parameters.dtype)
        return nbytes_of(self._kinds(parameters)) | nbytes_of(room)

    def update(self, grad_scale: float) -> None:
        """Make one update, parameter by parameter."""
        data_P, grad_P = self.parameters.data, self.parameters.grad
        with self._gauge.told(self.movement):
            for one in self._maps:
                self._update_matrix(one, data_P[one.slice], grad_P[one.slice], grad_scale)
            self._update_others(data_P, grad_P, grad_scale)
        self._state["step"] += 1

    def _update_matrix(
        self, one: Map, p_P: NDArray[Any], g_P: NDArray[Any], grad_scale: float
    ) -> None:
        momentum_P = one.of(self._state[f"{one.parameter.name}/momentum"]).reshape(-1)
        room_P = self._orthogonalized.room(p_P.size)
        muon_direction(g_P, momentum_P, room_P, self.momentum, self.nesterov, grad_scale)
        o_P = self._orthogonalized(one.rows, one.columns)
        lr = self.get_lr() * one.group.lr_scale
        rate = lr * ADJUSTMENTS[self.adjust_lr](one.rows, one.columns)
        sums_K2 = self._gauge.wanted(p_P.size)
        muon_apply(p_P, o_P, rate, lr * one.group.decay_of(self.weight_decay), sums_K2)
        self._gauge.add(one.group, sums_K2)

    def _update_others(self, data_P: NDArray[Any], grad_P: NDArray[Any], grad_scale: float) -> None:
        t = int(self._state["step"][0]) + 1
        for p, group in self._others:
            part, sums_K2 = slice(p.offset, p.offset + p.size), self._gauge.wanted(p.size)
            ops.adam_update(
                data_P[part],
                grad_P[part],
                self._state[f"{p.name}/m"].reshape(-1),
                self._state[f"{p.name}/v"].reshape(-1),
                self.get_lr() * group.lr_scale * self.adamw_lr_scale,
                self.beta1,
                self.beta2,
                self.adamw_eps,
                group.decay_of(self.weight_decay),
                True,
                1.0 - self.beta1**t,
                1.0 - self.beta2**t,
                grad_scale,
                sums_K2,
            )
            self._gauge.add(group, sums_K2)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return ``step``, the momentum of matrices, and both running means of everything else."""
        return dict(self._state)


def _names(given: object, parameters: Whole) -> tuple[str, ...]:
    """Check names with wildcards: each must match a parameter."""
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise ConfigError(
            f"optimizer muon: adamw: expected names of parameters, got {given!r:.200}; give a "
            'list such as ["embedding*", "head*"]'
        )
    all_of_them = parameters.whole if isinstance(parameters, ParameterShard) else parameters
    for name in names:
        if not any(fnmatchcase(p.name, name) for p in all_of_them):
            known = [p.name for p in all_of_them]
            raise ConfigError(
                f"optimizer muon: adamw: expected names that match a parameter, got {name!r:.200}."
                f"{did_you_mean(name, known)} The first are {', '.join(known[:6])}"
            )
    return tuple(names)

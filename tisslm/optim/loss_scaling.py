"""Loss scaling: fp16 gradients are multiplied by a factor, so that small ones do not become zero.

    s g = d(s L) / dp,   ||g|| = ||s g|| / s,   update with (clip / s) (s g)

The weights of the targets are multiplied by s, and the reported loss is divided by it. The pending
factor of the optimizer takes it out of the gradients, so no pass over them is added. s is a power
of two: multiplying by it changes no bit of a mantissa.

References
----------
P. Micikevicius and others, "Mixed Precision Training", arXiv 1710.03740, section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tisslm.config import TrainingConfig
from tisslm.config.training_types import LARGEST_SCALE
from tisslm.errors import NonFiniteError
from tisslm.memory import Parameters
from tisslm.memory.shards import ParameterShard

__all__ = ["LossScaler", "make_scaler"]

#: The least scale. Below 1, gradients would be made smaller than they are, and an overflow is not
#: due to scaling.
SMALLEST = 1.0


class LossScaler:
    """The scale of the loss, and of the current gradients.

    Parameters
    ----------
    parameters : Parameters or ParameterShard
        The parameters whose gradients are scaled.
    scale : float, default 1.0
        The initial scale, a power of two.
    growth_interval : int, optional
        Updates without an overflow after which the scale doubles; None fixes the scale.

    Attributes
    ----------
    scale : float
        The factor on the next gradients.
    good_updates : int
        Updates since the scale last changed.
    """

    def __init__(
        self,
        parameters: Parameters | ParameterShard,
        scale: float = 1.0,
        growth_interval: int | None = None,
    ) -> None:
        self.parameters = parameters
        self.scale = float(scale)
        self.growth_interval = growth_interval
        self.good_updates = 0
        self._generation = -1  # of the zero_grad whose gradients are scaled
        self._current = 1.0
        self._norm: float | None = None

    @property
    def dynamic(self) -> bool:
        """True if an overflow lowers the scale."""
        return self.growth_interval is not None

    # ------------------------------------------------------------------ gradients

    def begin(self) -> float:
        """Return the scale for gradients that are about to be added, fixed until zero_grad."""
        if self._generation != self.parameters.generation:
            self._generation, self._current = self.parameters.generation, self.scale
        self._norm = None
        return self._current

    @property
    def current(self) -> float:
        """The factor on the current gradients; 1 if ``begin`` was not called for them."""
        return self._current if self._generation == self.parameters.generation else 1.0

    def norm(self) -> float:
        """Compute the Euclidean norm of all gradients, with the scale divided out."""
        self._norm = self.parameters.grad_norm() / self.current
        return self._norm

    # ------------------------------------------------------------------ updates

    @property
    def stuck(self) -> str:
        """What to do about an overflow that no lower scale would avoid; "" if one may."""
        if self.dynamic and self.scale > SMALLEST:
            return ""
        if self.dynamic or self.scale == SMALLEST:
            return "Lower training.learning_rate"
        return f'Lower training.loss_scale = {self.scale:g} or set it to "dynamic"'

    def admit(self) -> bool:
        """Return True if the gradients are finite, and adapt the scale.

        ``Optimizer.step`` calls it before an update.

        Raises
        ------
        NonFiniteError
            As ``shrink``.
        """
        if self._generation != self.parameters.generation:
            return True  # not from a scaled pass
        norm, self._norm = self.norm() if self._norm is None else self._norm, None
        if not math.isfinite(norm):
            self.shrink()
            return False
        self.good_updates += 1
        if self.growth_interval is not None and self.good_updates >= self.growth_interval:
            self.scale, self.good_updates = min(2.0 * self.scale, float(LARGEST_SCALE)), 0
        return True

    def shrink(self) -> None:
        """Halve the scale after an overflow.

        Raises
        ------
        NonFiniteError
            If the scale is fixed, or is already 1.
        """
        if not self.dynamic:
            raise NonFiniteError(
                f"loss scaling: the gradients overflow at the fixed training.loss_scale = "
                f"{self.scale:g}; the parameters are unchanged. Lower it, or set it to "
                '"dynamic"'
            )
        if self.scale <= SMALLEST:
            raise NonFiniteError(
                "loss scaling: expected finite gradients at a loss scale of 1, got an overflow; "
                "the parameters are those of the last update. Lower training.learning_rate, look "
                'at the data of this step, or train with training.precision = "bf16" or "fp32", '
                "whose range is larger"
            )
        self.scale, self.good_updates = self.scale / 2.0, 0

    # ------------------------------------------------------------------ checkpoints

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain JSON values."""
        return {"scale": self.scale, "good_updates": self.good_updates}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state`` returned; a fixed scale keeps its value."""
        if self.dynamic and state:
            self.scale, self.good_updates = float(state["scale"]), int(state["good_updates"])


def make_scaler(
    parameters: Parameters | ParameterShard, config: TrainingConfig, precision: str
) -> LossScaler:
    """Return the scaler of a run: a scale of 1 unless the precision is "fp16".

    Parameters
    ----------
    parameters : Parameters or ParameterShard
    config : TrainingConfig
    precision : str
        The precision that was chosen, not "auto".
    """
    if precision != "fp16":
        return LossScaler(parameters)
    if config.loss_scale != "dynamic":
        return LossScaler(parameters, config.loss_scale)
    return LossScaler(parameters, config.loss_scale_init, config.loss_scale_growth_interval)

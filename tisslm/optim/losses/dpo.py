"""Direct preference optimization: the chosen answer is to gain more than the rejected one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import PreferenceLoss, PreferenceValue, ScoredPairs
from tisslm.contracts.options import flag, number, word
from tisslm.errors import ConfigError

__all__ = ["DPO"]

Array = NDArray[Any]

_WHERE = "loss dpo"

#: The least beta: a smaller one has no gradient to speak of, and ipo divides by it.
_LEAST_BETA = 1e-6


@final
class DPO(PreferenceLoss):
    """A loss of ``h``, by how much more the chosen answer has gained than the rejected one.

    With log-probabilities ``l`` of the answers by the model and ``r`` by the reference, of the
    chosen answer c and the rejected one d, ``h = (l_c - r_c) - (l_d - r_d)``, and the loss is

    - "sigmoid": ``-(1 - e) log s(beta h) - e log s(-beta h)``, where s is the logistic function and
      e ``label_smoothing``, the share of pairs that are taken to be the wrong way round;
    - "hinge": ``max(0, 1 - beta h)``;
    - "ipo": ``(h - 1 / (2 beta))^2``.

    The reward of an answer is ``beta (l - r)``. Names and formulas are those of TRL's DPOTrainer.

    Parameters
    ----------
    beta : float
        The larger it is, the nearer the model stays to the reference.
    loss_type : {"sigmoid", "hinge", "ipo"}
    label_smoothing : float
        In [0, 0.5), for "sigmoid" alone.
    length_normalized : bool, optional
        Whether l and r are means over the tokens of an answer, in place of sums; left out, they are
        of "ipo" alone.
    reference_free : bool
        Whether r is 0, so that no reference is needed.

    Raises
    ------
    ConfigError
        If an option is out of range.

    References
    ----------
    Rafailov et al., "Direct Preference Optimization: Your Language Model is Secretly a Reward
    Model", arXiv 2305.18290. Mitchell, "A note on DPO with noisy preferences", 2023 (label
    smoothing). Zhao et al., "SLiC-HF", arXiv 2305.10425 (hinge). Azar et al., "A General
    Theoretical Paradigm to Understand Learning from Human Preferences", arXiv 2310.12036 (ipo).
    """

    #: Sets of options that the checks build it with.
    test_options: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {},
        {"label_smoothing": 0.2, "length_normalized": True, "beta": 0.7},
        {"loss_type": "hinge", "beta": 0.05},
        {"loss_type": "ipo", "reference_free": True},
    )

    def __init__(
        self,
        *,
        beta: float = 0.1,
        loss_type: str = "sigmoid",
        label_smoothing: float = 0.0,
        length_normalized: bool | None = None,
        reference_free: bool = False,
    ) -> None:
        self.beta = number(f"{_WHERE}: beta", beta, _LEAST_BETA)
        self.loss_type = word(f"{_WHERE}: loss_type", loss_type, ("sigmoid", "hinge", "ipo"))
        self.label_smoothing = number(f"{_WHERE}: label_smoothing", label_smoothing, 0.0, 0.5)
        if self.label_smoothing and loss_type != "sigmoid":
            raise ConfigError(
                f'{_WHERE}: label_smoothing: expected 0 with loss_type "{loss_type}", got '
                f'{self.label_smoothing:g}; leave it out, or take "sigmoid"'
            )
        self.length_normalized = loss_type == "ipo"
        if length_normalized is not None:
            self.length_normalized = flag(f"{_WHERE}: length_normalized", length_normalized)
        self.reference_free = flag(f"{_WHERE}: reference_free", reference_free)
        self.needs_reference = not self.reference_free

    def value(self, pairs: ScoredPairs) -> PreferenceValue:
        """Compute the loss of each pair, its gradient, and the rewards."""
        gained_2P = pairs.policy_2P
        if self.needs_reference:
            gained_2P = gained_2P - pairs.reference_2P
        if self.length_normalized:
            gained_2P = gained_2P / pairs.lengths_2P
        with np.errstate(invalid="ignore"):  # a step that is not finite is for the run to judge
            losses_P, slope_P = self._of_gain(gained_2P[0] - gained_2P[1])
        d_policy_2P = np.stack([slope_P, -slope_P])
        if self.length_normalized:
            d_policy_2P /= pairs.lengths_2P
        return PreferenceValue(losses_P, d_policy_2P, self.beta * gained_2P)

    def _of_gain(self, h_P: Array) -> tuple[Array, Array]:
        """Return the loss of each pair, and its derivative by h."""
        if self.loss_type == "ipo":
            off_P = h_P - 0.5 / self.beta
            return off_P * off_P, 2.0 * off_P
        z_P = self.beta * h_P
        if self.loss_type == "hinge":
            short_P = 1.0 - z_P
            return np.maximum(short_P, 0.0), np.where(short_P > 0.0, -self.beta, 0.0)
        e = self.label_smoothing
        losses_P = (1.0 - e) * np.logaddexp(0.0, -z_P) + e * np.logaddexp(0.0, z_P)
        return losses_P, self.beta * (e - _logistic(-z_P))


def _logistic(z_P: Array) -> Array:
    """Return 1 / (1 + exp(-z)), which overflows nowhere."""
    found: Array = np.exp(-np.logaddexp(0.0, -z_P))
    return found

"""Conformance checks of losses: of next tokens, of vectors of texts, of pairs of answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tisslm.contracts import EmbeddingLoss, Loss, PreferenceLoss
from tisslm.testing.checks import Checks, Report, keeps_final_methods
from tisslm.testing.examples import option_sets
from tisslm.testing.losses.embedding import EMBEDDING_PROPERTIES
from tisslm.testing.losses.hidden import HIDDEN_PROPERTIES
from tisslm.testing.losses.logits import LOGITS_PROPERTIES
from tisslm.testing.losses.preference import PREFERENCE_PROPERTIES

__all__ = ["check_loss"]


def check_loss(
    cls: type[Loss] | type[EmbeddingLoss] | type[PreferenceLoss],
    *,
    options: Mapping[str, Any] | None = None,
    name: str = "",
) -> Report:
    """Check that a loss class keeps its contract: ``Loss``, or that of vectors or of pairs.

    Parameters
    ----------
    cls : type
    options : mapping, optional
        Options to build it with. By default ``cls.test_options``, or its own defaults.
    name : str, optional
        Its name in messages.

    Returns
    -------
    Report

    Raises
    ------
    ConformanceError
        At the first assertion that fails.
    """
    kinds = (EmbeddingLoss, PreferenceLoss, Loss)
    contract = next((kind for kind in kinds if issubclass(cls, kind)), Loss)
    checks = Checks(name or f"loss {cls.__name__}", contract)
    checks.run(keeps_final_methods, cls)
    properties: Sequence[Callable[[Checks, Any], None]] = EMBEDDING_PROPERTIES
    if issubclass(cls, PreferenceLoss):
        properties = PREFERENCE_PROPERTIES
    elif not issubclass(cls, EmbeddingLoss):
        checks.run(needs_logits_or_hidden, cls)
        properties = LOGITS_PROPERTIES if cls.needs == "logits" else HIDDEN_PROPERTIES
    for chosen in option_sets(cls, options):

        def make(chosen: Mapping[str, Any] = chosen) -> Any:
            return cls(**chosen)

        for prop in properties:
            checks.run(prop, make, options=chosen)
    return checks.report()


def needs_logits_or_hidden(checks: Checks, cls: type[Loss]) -> None:
    """Check that ``needs`` is "logits" or "hidden"."""
    checks.that(cls.needs in ("logits", "hidden"), "needs 'logits' or 'hidden'", repr(cls.needs))

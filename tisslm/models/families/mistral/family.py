"""The family ``mistral``.

Its defaults and sizes are in ``tisslm.config.model.presets``, its model in
``tisslm.models.transformer``.
"""

from __future__ import annotations

from typing import final

from tisslm.models.families.transformers import TransformerFamily

__all__ = ["Mistral"]


@final
class Mistral(TransformerFamily):
    """Transformers like Mistral: those of the family ``llama``, made for a window of attention.

    References
    ----------
    Jiang et al., "Mistral 7B", arXiv 2310.06825.
    """

    name = "mistral"

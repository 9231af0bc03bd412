"""The family ``gpt_neox``: GPT-NeoX and Pythia.

Its defaults and sizes are in ``tisslm.config.model.presets``, its model in
``tisslm.models.transformer``.
"""

from __future__ import annotations

from typing import final

from tisslm.models.families.transformers import TransformerFamily

__all__ = ["GPTNeoX"]


@final
class GPTNeoX(TransformerFamily):
    """Transformers like GPT-NeoX and Pythia: attention and MLP side by side, heads partly rotated.

    References
    ----------
    Black et al., "GPT-NeoX-20B", arXiv 2204.06745.
    Biderman et al., "Pythia", arXiv 2304.01373.
    """

    name = "gpt_neox"

"""The family ``gpt_neox``: GPT-NeoX and Pythia.

What sets it apart is in ``tisslm.config.model.presets``, the model in ``tisslm.models.transformer``.
"""

from __future__ import annotations

from typing import final

from tisslm.models.families.transformers import TransformerFamily

__all__ = ["GPTNeoX"]


@final
class GPTNeoX(TransformerFamily):
    """Transformers like GPT-NeoX and Pythia: attention and MLP of a block side by side, a quarter of
    each head rotated.

    References
    ----------
    Black et al., "GPT-NeoX-20B", arXiv 2204.06745.
    Biderman et al., "Pythia", arXiv 2304.01373.
    """

    name = "gpt_neox"

"""The family ``gpt2``.

Its defaults and sizes are in ``tisslm.config.model.presets``, its model in
``tisslm.models.transformer``.
"""

from __future__ import annotations

from typing import final

from tisslm.models.families.transformers import TransformerFamily

__all__ = ["GPT2"]


@final
class GPT2(TransformerFamily):
    """Decoder-only transformers like GPT-2: learned positions, layer norms, GELU.

    References
    ----------
    Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
    """

    name = "gpt2"

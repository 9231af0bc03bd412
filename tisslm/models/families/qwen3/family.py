"""The family ``qwen3``.

Its defaults and sizes are in ``tisslm.config.model.presets``, its model in
``tisslm.models.transformer``.
"""

from __future__ import annotations

from typing import final

from tisslm.models.families.transformers import TransformerFamily

__all__ = ["Qwen3"]


@final
class Qwen3(TransformerFamily):
    """Transformers like Qwen3: as ``llama``, with queries and keys normalized by head.

    References
    ----------
    Yang et al., "Qwen3 Technical Report", arXiv 2505.09388.
    """

    name = "qwen3"

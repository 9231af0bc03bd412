"""The family ``qwen2``: Qwen2 and Qwen2.5.

Its defaults and sizes are in ``tisslm.config.model.presets``, its model in
``tisslm.models.transformer``.
"""

from __future__ import annotations

from typing import final

from tisslm.models.families.transformers import TransformerFamily

__all__ = ["Qwen2"]


@final
class Qwen2(TransformerFamily):
    """Transformers like Qwen2 and Qwen2.5: as ``llama``, with biases of queries, keys and values.

    References
    ----------
    Yang et al., "Qwen2 Technical Report", arXiv 2407.10671.
    Qwen Team, "Qwen2.5 Technical Report", arXiv 2412.15115.
    """

    name = "qwen2"

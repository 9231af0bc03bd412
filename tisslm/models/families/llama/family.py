"""The family ``llama``: Llama, SmolLM2, TinyLlama and the like.

Its defaults and sizes are in ``tisslm.config.model.presets``, its model in
``tisslm.models.transformer``.
"""

from __future__ import annotations

from typing import final

from tisslm.models.families.transformers import TransformerFamily

__all__ = ["Llama"]


@final
class Llama(TransformerFamily):
    """Decoder-only transformers like Llama: rotary positions, RMS norms, SwiGLU, no biases.

    References
    ----------
    Touvron et al., "LLaMA", arXiv 2302.13971.
    Grattafiori et al., "The Llama 3 Herd of Models", arXiv 2407.21783.
    Ben Allal et al., "SmolLM2", arXiv 2502.02737.
    """

    name = "llama"

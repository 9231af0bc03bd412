"""What ``[model]`` says: families, presets, and the shape of a transformer.

What does not live here: the models that are built from it (``tisslm.models``).
"""

from __future__ import annotations

from tisslm.config.model.keys import CHOICES, GATED
from tisslm.config.model.presets import FAMILIES, FAMILY, PRESETS, family_of, preset, presets_of
from tisslm.config.model.rope_scaling import RopeScaling, Unscaled
from tisslm.config.model.section import FROM, KEPT_WITH_FROM, ModelSection
from tisslm.config.model.transformer import TransformerConfig

__all__ = [
    "CHOICES",
    "FAMILIES",
    "FAMILY",
    "FROM",
    "GATED",
    "KEPT_WITH_FROM",
    "PRESETS",
    "ModelSection",
    "RopeScaling",
    "TransformerConfig",
    "Unscaled",
    "family_of",
    "preset",
    "presets_of",
]

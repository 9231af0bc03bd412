"""A shape of ours as ``config.json`` of transformers has it, and the other way round.

``shape_of`` reads and ``written`` writes; a module for each kind of family has its keys in both
directions, side by side. ``source`` is what was read, key by key, and refuses what nobody asked for
and is not known to be harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tisslm.config.model import TransformerConfig
from tisslm.errors import CheckpointError, ConfigError
from tisslm.models.huggingface.configuration import gpt2, gpt_neox, llama
from tisslm.models.huggingface.configuration.source import Source
from tisslm.models.huggingface.names import FAMILIES
from tisslm.system.safe_files import show

__all__ = ["shape_of", "written"]

Settings = dict[str, Any]

_FORMS: Mapping[
    str, tuple[Callable[[Source], Settings], Callable[[TransformerConfig], Settings | None]]
] = {
    "gpt2": (gpt2.read, gpt2.write),
    "gpt_neox": (gpt_neox.read, gpt_neox.write),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), (llama.read, llama.write)),
}


def shape_of(
    values: Mapping[str, Any], where: str, *, any_dropout: bool = False
) -> TransformerConfig:
    """Return the shape that a ``config.json`` describes.

    Parameters
    ----------
    values : mapping
        Its content; what we may have added is not read here.
    where : str
        The file, for messages.
    any_dropout : bool
        Whether that of the file is of no interest; otherwise it must be the same at all places.

    Raises
    ------
    CheckpointError
        If the family is not known, or a key is missing, wrong, or may change what the model
        computes in a way that ours cannot.
    """
    family = values.get("model_type")
    if not isinstance(family, str) or family not in FAMILIES:
        got = show(family) if "model_type" in values else "none"
        raise CheckpointError(
            f"{where}: model_type: expected an architecture out of {', '.join(FAMILIES)}, got "
            f"{got}; give a model of one of these"
        )
    source = Source(values, where, any_dropout)
    settings = _FORMS[family][0](source)
    settings["vocab_size"] = source.count("vocab_size")
    settings["causal"] = source.flag("is_causal", True)
    source.refuse_others()
    try:
        return TransformerConfig(family=family, **settings)
    except ConfigError as error:
        raise CheckpointError(
            f"{where}: expected the configuration of a {family} model, got another ({error}); "
            "download or save it again"
        ) from error


def written(config: TransformerConfig) -> dict[str, Any] | None:
    """Return what ``config.json`` has of a shape; None if no class of its family is of this shape.

    Dropout apart, which no evaluation sees, the model there computes what ours does.
    """
    if config.logit_cap or config.rescaled:
        return None
    keys = _FORMS[config.family][1](config)
    return keys and {
        "architectures": [FAMILIES[config.family].model],
        "model_type": config.family,
        **keys,
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tie_embeddings,
        **({} if config.causal else {"is_causal": False}),
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }

"""The files by which sentence-transformers makes an encoder of a model of transformers.

They have the form that all of its versions read. The model itself, and the tokenizer, are in the
same folder, as transformers has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tisslm.config.model import TransformerConfig

__all__ = ["DENSE", "LINEAR", "POOLINGS", "body_of", "module_files"]

#: The folder of the projection, and what its array is called there.
DENSE, LINEAR = "2_Dense", "linear.weight"

#: What poolings are called there: in a list of flags, and since version 6 by a name.
POOLINGS: Mapping[str, tuple[str, str]] = {
    "mean": ("pooling_mode_mean_tokens", "mean"),
    "last": ("pooling_mode_lasttoken", "lasttoken"),
    "max": ("pooling_mode_max_tokens", "max"),
}

_OTHER_MODES = (
    "pooling_mode_cls_token",
    "pooling_mode_mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens",
)

#: An activation that does nothing: the projection is a matrix alone.
_IDENTITY = "torch.nn.modules.linear.Identity"


def body_of(config: TransformerConfig) -> TransformerConfig:
    """Return the shape of a language model that has the arrays of an encoder's body, and no more.

    Its output matrix is the token embedding, so that there is none to be missed.
    """
    plain = {"pooling": "none", "projection": 0, "normalize": True}
    return config.model_copy(update={**plain, "logit_scale": 0.0, "tie_embeddings": True})


def module_files(
    config: TransformerConfig,
    *,
    max_tokens: int,
    prompts: Mapping[str, str],
    similarity: str,
) -> dict[str, Any]:
    """Return the content of each file, plain values, by its path in the folder.

    Parameters
    ----------
    config : TransformerConfig
        Of an encoder.
    max_tokens : int
        Where texts are cut.
    prompts : mapping of str to str
        What is written before queries and documents.
    similarity : {"cosine", "dot"}
    """
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modes = [mode for mode, _ in POOLINGS.values()]
    chosen = POOLINGS[config.pooling][0]
    files: dict[str, Any] = {
        "1_Pooling/config.json": {
            "word_embedding_dimension": config.n_embd,
            **{mode: mode == chosen for mode in (*modes, *_OTHER_MODES)},
            "include_prompt": True,
        },
        "sentence_bert_config.json": {"max_seq_length": max_tokens, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": dict(prompts),
            "default_prompt_name": None,
            "similarity_fn_name": similarity,
        },
    }
    if config.projection:
        modules.append((DENSE, "Dense"))
        files[f"{DENSE}/config.json"] = {
            "in_features": config.n_embd,
            "out_features": config.projection,
            "bias": False,
            "activation_function": _IDENTITY,
        }
    if config.normalize:
        modules.append((f"{len(modules)}_Normalize", "Normalize"))
    files["modules.json"] = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ]
    return files

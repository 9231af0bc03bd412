"""The files by which Hugging Face's libraries read a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tisslm.tokenizers.huggingface.post_processor import leading_ids, with_leading
from tisslm.tokenizers.settings import ROLES, TokenizerSettings

__all__ = ["published_files"]

#: The class that reads any tokenizer.json, whatever the model's type is.
CLASS = "PreTrainedTokenizerFast"


def published_files(
    content: Mapping[str, Any],
    settings: TokenizerSettings | None = None,
    *,
    end_of_text: str = "",
    ids: Mapping[str, int] | None = None,
) -> dict[str, Mapping[str, Any]]:
    """Return the content of each file by its name.

    Parameters
    ----------
    content : mapping
        The content of the tokenizer.json.
    settings : TokenizerSettings, optional
    end_of_text : str
        The token that ends documents, if no ``eos_token`` is said.
    ids : mapping of str to int
        The ids of all tokens.

    Returns
    -------
    dict
        ``model_max_length`` is left out: the tokenizer does not know it. The post-processor is
        another one where it does not put ``begin`` before a text.
    """
    said, known = settings or TokenizerSettings(), ids or {}
    roles = {role: getattr(said, role) for role in ROLES}
    roles["eos_token"] = roles["eos_token"] or end_of_text
    names = {number: name for name, number in known.items()}
    if said.begin and not roles["bos_token"]:
        roles["bos_token"] = names.get(said.begin[0], "")
    config: dict[str, Any] = {
        "tokenizer_class": CLASS,
        "clean_up_tokenization_spaces": False,
        **{role: name for role, name in roles.items() if name},
    }
    if (leading_ids(content.get("post_processor")) or []) != list(said.begin):
        content = with_leading(content, {names[i]: i for i in said.begin if i in names})
    if said.chat_template:
        config["chat_template"] = said.chat_template
    files: dict[str, Mapping[str, Any]] = {
        "tokenizer.json": content,
        "tokenizer_config.json": config,
    }
    roles_ids = {r: known[n] for r, n in roles.items() if n in known}
    files["generation_config.json"] = _generation(said, roles_ids)
    return files


def _generation(said: TokenizerSettings, roles: Mapping[str, int]) -> dict[str, Any]:
    """Return the special ids that generation needs, null where there is none.

    One end is a number, several are a list. What is left out would be taken from the model's class.
    """
    ends = list(said.ends) or [roles[role] for role in ("eos_token",) if role in roles]
    return {
        "bos_token_id": roles.get("bos_token"),
        "eos_token_id": ends if len(ends) > 1 else next(iter(ends), None),
        "pad_token_id": roles.get("pad_token"),
    }

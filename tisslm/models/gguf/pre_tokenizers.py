"""How texts are cut into words before pairs are merged, by the names that GGUF files have.

A name stands for an expression, or several, in llama.cpp's ``src/llama-vocab.cpp``. Here are those
whose equivalent in a tokenizer.json is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["PRE_TOKENIZERS", "PreTokenizer", "pre_of"]

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_WORDS = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*%s"
    r"|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _bytes(use_regex: bool) -> dict[str, Any]:
    """Return the step that writes bytes as characters, and may split as GPT-2 does."""
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": use_regex,
    }


def _split(expression: str) -> dict[str, Any]:
    """Return a split by an expression, and then the bytes."""
    split = {
        "type": "Split",
        "pattern": {"Regex": expression},
        "behavior": "Isolated",
        "invert": False,
    }
    return {"type": "Sequence", "pretokenizers": [split, _bytes(use_regex=False)]}


@dataclass(frozen=True)
class PreTokenizer:
    """What a name means.

    Attributes
    ----------
    splitting : mapping
        The ``pre_tokenizer`` of a tokenizer.json.
    normalizer : str or None
        The form of Unicode to which texts are brought before. llama.cpp leaves them as they are.
    ignore_merges : bool
        Whether a word that is a token is taken whole.
    begins : bool
        Whether texts begin with a token, where the file does not say.
    """

    splitting: Mapping[str, Any]
    normalizer: str | None = None
    ignore_merges: bool = False
    begins: bool = False


_GPT2 = PreTokenizer(_bytes(use_regex=True))
_NEOX = PreTokenizer(_GPT2.splitting, normalizer="NFC")
_DIGITS = PreTokenizer(
    {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, _bytes(use_regex=True)],
    }
)
_LLAMA3 = PreTokenizer(
    _split(rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}{_REST}"),
    ignore_merges=True,
    begins=True,
)
_QWEN2 = PreTokenizer(
    _split(rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{_REST}"), normalizer="NFC"
)
_GPT4O = PreTokenizer(_split(_WORDS % (f"{_CONTRACTIONS}?", f"{_CONTRACTIONS}?", "{1,3}")))
_TEKKEN = PreTokenizer(_split(_WORDS % ("", "", "")), ignore_merges=True, begins=True)

#: By name; of several names that mean the same, the one that is written comes first.
PRE_TOKENIZERS: Mapping[str, PreTokenizer] = {
    "gpt-2": _GPT2,
    "gpt2": _GPT2,
    "phi-2": _GPT2,
    "olmo": _NEOX,
    "mpt": _NEOX,
    "smollm": _DIGITS,
    "starcoder": _DIGITS,
    "refact": _DIGITS,
    "codeshell": _DIGITS,
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "gpt-4o": _GPT4O,
    "tekken": _TEKKEN,
}


def pre_of(tokenizer: Mapping[str, Any]) -> str | None:
    """Return the name for the content of a tokenizer.json; None if there is none.

    A tokenizer that normalizes nothing may have the name of one that does, since llama.cpp does
    not, either; not the other way round.
    """
    normalizer = (tokenizer.get("normalizer") or {}).get("type")
    splitting = _essence(tokenizer.get("pre_tokenizer") or {})
    ignore_merges = bool(tokenizer["model"].get("ignore_merges"))
    alike = [
        (name, known)
        for name, known in PRE_TOKENIZERS.items()
        if _essence(known.splitting) == splitting and known.ignore_merges == ignore_merges
    ]
    same = [name for name, known in alike if known.normalizer == normalizer]
    any_ = [name for name, _ in alike if normalizer is None]
    return next(iter(same + any_), None)


def _essence(value: Any) -> Any:
    """Return nested JSON without what changes no ids."""
    if isinstance(value, Mapping):
        return {key: _essence(inner) for key, inner in value.items() if key != "trim_offsets"}
    if isinstance(value, list | tuple):
        return [_essence(inner) for inner in value]
    return value

"""Reading a tokenizer and all that is said about it from a Hugging Face folder.

Files may be links, as in Hugging Face's cache. What they say is checked in ``settings``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tisslm.errors import DataError
from tisslm.system.safe_files import Refusal, RegularFile, show
from tisslm.system.strict_json import parse_json
from tisslm.tokenizers.huggingface.post_processor import leading_ids
from tisslm.tokenizers.settings import END_OF_TEXT, LONGEST_TEMPLATE, ROLES
from tisslm.tokenizers.tokenizer_json import read

__all__ = ["read_folder"]

TOKENIZER = "tokenizer.json"
CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"
TEMPLATE = "chat_template.jinja"
#: Where the ids that end a text are, the first that says some.
END_IDS = ("generation_config.json", "config.json")

#: Limits of the small files: a tokenizer_config.json lists added tokens, a few thousand at most.
LARGEST = 2**23
MAX_VALUES = 2**19

_UNUSABLE = Refusal(
    DataError,
    "cannot be used as a file of a tokenizer",
    "save the tokenizer again with save_pretrained",
)


def read_folder(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the content of a folder's tokenizer.json, and what its other files say.

    ``tokenizer_config.json`` (or, in older folders, ``special_tokens_map.json``) names the tokens
    with a role; ``chat_template.jinja`` or the former has the template; the ids that end a text are
    in ``generation_config.json`` or ``config.json``. All of these may be missing.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    content : str
    said : dict
        Keys of ``TokenizerSettings``, not yet checked.

    Raises
    ------
    DataError
        If there is no tokenizer.json, or a file cannot be used.
    """
    if not _exists(folder / TOKENIZER):
        raise DataError(
            f"{folder}: expected a folder with a {TOKENIZER}, got none; load its tokenizer with "
            "transformers' AutoTokenizer, and save it with save_pretrained"
        )
    content = read(folder / TOKENIZER)
    config = _object(folder / CONFIG)
    said: dict[str, Any] = {}
    roles = {**_object(folder / SPECIAL_TOKENS), **config}
    for role in ROLES:
        name = _token(roles.get(role), f"{folder / CONFIG}: {role}")
        if name:
            said[role] = name
    template = _template(folder, config)
    if template:
        said["chat_template"] = template
    described = json_content(content)
    ids = _ids_of(described)
    begin = _begin(described, config, said, ids)
    if begin:
        said["begin"] = begin
    ends = _ends(folder, said, ids)
    if ends:
        said["ends"] = ends
    # A role of a token that the vocabulary lacks is none.
    said = {key: value for key, value in said.items() if key not in ROLES or value in ids}
    usual = next((name for name in END_OF_TEXT if name in ids), "")
    if said == {"eos_token": usual, "ends": [ids.get(usual)]}:
        said = {}  # the same tokenizer as its file alone, with the same state
    return content, said


def json_content(content: str) -> dict[str, Any]:
    """Return the object of a tokenizer.json, {} if it is none: building it refuses that."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _object(path: Path) -> dict[str, Any]:
    """Return the object of a small file, {} if there is no such file."""
    if not _exists(path):
        return {}
    with RegularFile(path, _UNUSABLE, follow=True) as file:
        data = file.read(LARGEST)
    return parse_json(data, path, _UNUSABLE, max_values=MAX_VALUES, allow_nan=True)


def _exists(path: Path) -> bool:
    try:
        return path.is_symlink() or path.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _token(value: object, where: str) -> str:
    """Return the name of a token that is given as a text, or as an object with its content."""
    if isinstance(value, Mapping):
        value = value.get("content")
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{where}: expected the name of a token, got {show(value)}; mend the file")
    return value


def _template(folder: Path, config: Mapping[str, Any]) -> object:
    """Return the chat template: of a file of its own, or of the configuration."""
    if _exists(folder / TEMPLATE):
        with RegularFile(folder / TEMPLATE, _UNUSABLE, follow=True) as file:
            try:
                return file.read(LONGEST_TEMPLATE).decode("utf-8")
            except UnicodeDecodeError:
                raise _UNUSABLE(folder / TEMPLATE, "it is not UTF-8") from None
    found = config.get("chat_template")
    if not isinstance(found, list):
        return found
    named = {
        each["name"]: each.get("template")
        for each in found
        if isinstance(each, Mapping) and isinstance(each.get("name"), str)
    }
    return named.get("default") or next(iter(named.values()), None)


def _ids_of(described: Mapping[str, Any]) -> dict[str, int]:
    """Return the ids of all tokens by name; what is not of the right type is left out."""
    model, added = described.get("model"), described.get("added_tokens")
    vocabulary = model.get("vocab") if isinstance(model, Mapping) else None
    found: dict[str, int] = {}
    if isinstance(vocabulary, Mapping):
        found.update(vocabulary)
    elif isinstance(vocabulary, list):  # of unigrams: pairs of token and score
        pairs = enumerate(vocabulary)
        found.update({str(pair[0]): i for i, pair in pairs if isinstance(pair, list) and pair})
    for token in added if isinstance(added, list) else ():
        if isinstance(token, Mapping) and isinstance(token.get("content"), str):
            found[token["content"]] = token.get("id", -1)
    return found


def _begin(
    described: Mapping[str, Any],
    config: Mapping[str, Any],
    said: Mapping[str, Any],
    ids: Mapping[str, int],
) -> list[int]:
    """Return the ids before a text: by the post-processor's template, or else the configuration.

    So does transformers from its version 5 on, except that it has no use for the configuration.
    """
    leading = leading_ids(described.get("post_processor"))
    if leading is not None:
        return leading
    bos = said.get("bos_token", "")
    return [ids[bos]] if config.get("add_bos_token") is True and bos in ids else []


def _ends(folder: Path, said: Mapping[str, Any], ids: Mapping[str, int]) -> object:
    """Return the ids at which generation stops, that of ``eos_token`` among them."""
    for name in END_IDS:
        found = _object(folder / name).get("eos_token_id")
        if found is not None:
            listed = found if isinstance(found, list) else [found]
            end = ids.get(said.get("eos_token", ""))
            is_told = name == END_IDS[0] or end is None or end in listed
            return listed if is_told else [*listed, end]
    return [ids[said["eos_token"]]] if said.get("eos_token") in ids else []

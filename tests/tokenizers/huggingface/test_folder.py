"""What each file of a Hugging Face folder says of a tokenizer, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tisslm.errors import CheckpointError, ConfigError, DataError
from tisslm.tokenizers import BpeTokenizer

SPECIAL = ["<|endoftext|>", "<s>", "<|end|>", "<pad>", "<unk>"]
TRAINED = BpeTokenizer.from_text("a rose is a rose", vocab_size=270, special_tokens=SPECIAL)
BEGINS = {
    "type": "TemplateProcessing",
    "single": [
        {"SpecialToken": {"id": "<s>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "<|end|>", "type_id": 0}},
    ],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {
        "<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]},
        "<|end|>": {"id": "<|end|>", "ids": [2], "tokens": ["<|end|>"]},
    },
}
SEQUENCE = {
    "type": "Sequence",
    "processors": [
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True},
        BEGINS,
    ],
}


def folder(path: Path, *, post_processor: Any = None, **files: Any) -> Path:
    """Write a folder: ``tokenizer_config={...}`` becomes that JSON file."""
    content = TRAINED.state()["tokenizer"] | {"post_processor": post_processor}
    (path / "tokenizer.json").write_text(json.dumps(content))
    for name, found in files.items():
        text = found if isinstance(found, str) else json.dumps(found)
        (path / f"{name}.json").write_text(text)
    return path


def said(path: Path, **files: Any) -> dict[str, Any]:
    state = BpeTokenizer.from_folder(folder(path, **files)).state()
    found: dict[str, Any] = state.get("config", {})
    return found


def refused(path: Path, **files: Any) -> str:
    with pytest.raises(DataError) as caught:
        BpeTokenizer.from_folder(folder(path, **files))
    return str(caught.value).replace(f"{path}", "folder")


def test_a_folder_that_says_nothing_is_its_file(tmp_path: Path) -> None:
    assert BpeTokenizer.from_folder(folder(tmp_path)).state() == TRAINED.state()


def test_tokens_are_texts_or_objects_and_those_of_the_newer_file_count(tmp_path: Path) -> None:
    config = {"bos_token": {"content": "<s>", "lstrip": False}, "eos_token": "<|end|>"}
    older = {"eos_token": "<|endoftext|>", "unk_token": {"content": "<unk>"}, "pad_token": None}
    found = said(tmp_path, tokenizer_config=config, special_tokens_map=older)
    assert found == {
        "bos_token": "<s>",
        "eos_token": "<|end|>",
        "unk_token": "<unk>",
        "ends": [2],
    }
    tokenizer = BpeTokenizer(path=tmp_path)
    assert (tokenizer.end_of_text, tokenizer.ends, tokenizer.begin) == (2, (2,), ())
    assert tokenizer.count_bytes(np.array([1, 2])) == 3  # <s> is text: nothing begins with it


def test_a_role_of_a_token_that_is_none_is_left_out(tmp_path: Path) -> None:
    assert said(tmp_path, tokenizer_config={"bos_token": "<none>", "mask_token": "<s>"}) == {}


@pytest.mark.parametrize("post_processor", [BEGINS, SEQUENCE], ids=["alone", "in a sequence"])
def test_the_post_processor_says_what_a_text_begins_with(
    tmp_path: Path, post_processor: dict[str, Any]
) -> None:
    assert said(tmp_path, post_processor=post_processor) == {"begin": [1]}
    tokenizer = BpeTokenizer(path=tmp_path)
    assert tokenizer.begin == (1,)
    assert tokenizer.encode("a") == TRAINED.encode("a")
    assert tokenizer.count_bytes(np.array([1, 0])) == 0
    assert BpeTokenizer(path=tmp_path / "tokenizer.json").begin == ()  # the file alone


@pytest.mark.parametrize(
    ("config", "post_processor", "begin"),
    [
        ({"add_bos_token": True, "bos_token": "<s>"}, None, (1,)),
        ({"add_bos_token": True, "bos_token": "<s>"}, SEQUENCE["processors"][0], (1,)),
        ({"add_bos_token": True}, None, ()),
        ({"add_bos_token": False, "bos_token": "<s>"}, None, ()),
        ({"bos_token": "<s>"}, None, ()),
        ({"add_bos_token": False, "bos_token": "<s>"}, BEGINS, (1,)),
        (
            {"add_bos_token": True, "bos_token": "<s>"},
            {**BEGINS, "single": BEGINS["single"][1:]},
            (),
        ),
    ],
)
def test_the_configuration_counts_where_there_is_no_template(
    tmp_path: Path, config: dict[str, Any], post_processor: Any, begin: tuple[int, ...]
) -> None:
    path = folder(tmp_path, post_processor=post_processor, tokenizer_config=config)
    assert BpeTokenizer.from_folder(path).begin == begin


@pytest.mark.parametrize(
    ("files", "ends"),
    [
        ({"generation_config": {"eos_token_id": [3, 0, 3]}, "config": {"eos_token_id": 4}}, (3, 0)),
        ({"config": {"eos_token_id": 4}}, (4,)),
        ({"config": {"eos_token_id": 4}, "tokenizer_config": {"eos_token": "<s>"}}, (4, 1)),
        ({"generation_config": {}, "config": {"eos_token_id": None}}, (0,)),
        ({"tokenizer_config": {"eos_token": "<pad>"}}, (3,)),
    ],
)
def test_the_ids_that_end_a_text(
    tmp_path: Path, files: dict[str, Any], ends: tuple[int, ...]
) -> None:
    assert BpeTokenizer.from_folder(folder(tmp_path, **files)).ends == ends


def test_the_template_is_a_text_one_of_several_or_a_file(tmp_path: Path) -> None:
    def template(value: Any) -> str | None:
        path = folder(tmp_path, tokenizer_config={"chat_template": value})
        return BpeTokenizer.from_folder(path).chat_template

    assert template("a") == "a"
    named = [{"name": "tool_use", "template": "a"}, {"name": "default", "template": "b"}]
    assert template(named) == "b"
    assert template(named[:1]) == "a"
    assert template(None) is None
    (tmp_path / "chat_template.jinja").write_text("c")
    assert template("a") == "c"


def test_files_may_be_links(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    folder(tmp_path / "blobs", tokenizer_config={"eos_token": "<s>"})
    (tmp_path / "seen").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "seen" / name).symlink_to(Path("../blobs") / name)
    assert BpeTokenizer.from_folder(tmp_path / "seen").end_of_text == 1


def test_the_state_builds_the_same(tmp_path: Path) -> None:
    config = {"chat_template": "x", "eos_token": "<|end|>", "bos_token": "<s>"}
    tokenizer = BpeTokenizer.from_folder(
        folder(tmp_path, post_processor=BEGINS, tokenizer_config=config)
    )
    state = json.loads(json.dumps(tokenizer.state()))
    again = BpeTokenizer.from_state(state)
    assert again.state() == state
    assert (again.begin, again.ends, again.chat_template) == ((1,), (2,), "x")


OTHER_ID = (
    "folder: ends: expected token ids from 0 to 264, got '{}'; use the tokenizer and the "
    "configuration of one model"
)
LIMITS = [
    ({"config": {"eos_token_id": 265}}, OTHER_ID.format(265)),
    ({"config": {"eos_token_id": -1}}, OTHER_ID.format(-1)),
    ({"config": {"eos_token_id": True}}, OTHER_ID.format(True)),
    ({"config": {"eos_token_id": [0] * 65}}, "folder: ends: expected a list of at most 64 token "
     f"ids, got '[{'0, ' * 19}0,...'; mend it"),
    ({"tokenizer_config": {"chat_template": "x" * 65537}}, "folder: chat_template: expected a text "
     "of at most 65536 bytes, got one of 65537 bytes; shorten it"),
    ({"tokenizer_config": {"chat_template": 3}}, "folder: chat_template: expected a text of at "
     "most 65536 bytes, got '3'; shorten it"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "message"), LIMITS)
def test_what_does_not_fit_is_refused(tmp_path: Path, files: dict[str, Any], message: str) -> None:
    assert TRAINED.vocab_size == 265
    assert refused(tmp_path, **files) == message


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, tokenizer_config="[1]").startswith(
        "folder/tokenizer_config.json: cannot be used as a file of a tokenizer ("
    )
    assert refused(tmp_path, tokenizer_config={"bos_token": 3}) == (
        "folder/tokenizer_config.json: bos_token: expected the name of a token, got '3'; mend the "
        "file"
    )
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    assert refused(tmp_path).startswith("folder/chat_template.jinja: ")


def test_a_folder_without_a_tokenizer_json_is_refused(tmp_path: Path) -> None:
    for make in (BpeTokenizer.from_folder, lambda path: BpeTokenizer(path=path)):
        with pytest.raises(DataError) as caught:
            make(tmp_path)
        assert str(caught.value) == (
            f"{tmp_path}: expected a folder with a tokenizer.json, got none; load its tokenizer "
            "with transformers' AutoTokenizer, and save it with save_pretrained"
        )
    with pytest.raises(DataError, match=r"json, got none; give the folder of a model"):
        BpeTokenizer.from_folder(tmp_path / "none")


@pytest.mark.parametrize("config", [[], {"begin": 3}, {"begin": [999]}, {"other": 1}, "x"])
def test_a_state_with_something_else_is_damaged(config: Any) -> None:
    with pytest.raises(CheckpointError, match=r"^bpe tokenizer: expected a state with the content"):
        BpeTokenizer.from_state(TRAINED.state() | {"config": config})


def test_nothing_is_said_without_a_tokenizer() -> None:
    with pytest.raises(ConfigError):
        BpeTokenizer(said={})

"""The published files: the library, and transformers, read from them the same ids and texts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tisslm.contracts import Tokenizer
from tisslm.tokenizers import BpeTokenizer, ByteTokenizer, CharTokenizer

#: Characters of all kinds and lengths in UTF-8: all of the first, every 61st of the rest.
CODES = [*range(0x3100), *range(0x3100, sys.maxunicode + 1, 61)]
EVERY = "".join(chr(code) for code in CODES if not 0xD800 <= code < 0xE000)
TEXT = "It's\r\n\n two\tlines\u2028 e\u0301 \U0001f600 \x00\x7f "
SPECIAL = ["<|endoftext|>", "<s>", "</s>", "<pad>", "<unk>"]
BPE = BpeTokenizer.from_text(TEXT * 4, vocab_size=300, special_tokens=SPECIAL)


def with_said(**said: Any) -> BpeTokenizer:
    return BpeTokenizer.from_state(BPE.state() | {"config": said})


def write(folder: Path, tokenizer: Tokenizer) -> Path:
    files = tokenizer.published()
    assert files is not None
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), CharTokenizer(characters=EVERY)])
def test_the_library_reads_every_character(tmp_path: Path, tokenizer: Tokenizer) -> None:
    import tokenizers

    theirs = tokenizers.Tokenizer.from_file(str(write(tmp_path, tokenizer) / "tokenizer.json"))
    ids = theirs.encode(EVERY).ids
    assert ids == tokenizer.encode(EVERY)
    assert theirs.decode(ids, skip_special_tokens=False) == EVERY


def test_a_character_that_is_none_is_not_read_as_another(tmp_path: Path) -> None:
    path = write(tmp_path, CharTokenizer(characters="ab")) / "tokenizer.json"
    import tokenizers

    with pytest.raises(Exception, match="WordLevel error"):
        tokenizers.Tokenizer.from_file(str(path)).encode("abc")


def test_what_is_said_is_in_the_files() -> None:
    said = {"begin": [1], "ends": [2, 0], "chat_template": "x", "eos_token": "</s>"}
    files = with_said(**said, pad_token="<pad>").published()
    assert files["tokenizer_config.json"] == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "chat_template": "x",
    }
    single = files["tokenizer.json"]["post_processor"]["single"]
    assert single[0] == {"SpecialToken": {"id": "<s>", "type_id": 0}}
    assert files["generation_config.json"] == {
        "bos_token_id": 1,
        "eos_token_id": [2, 0],
        "pad_token_id": 3,
    }
    none = {"bos_token_id": None, "pad_token_id": None}
    assert BPE.published()["generation_config.json"] == {"eos_token_id": 0, **none}
    assert set(ByteTokenizer().published()) == set(files)


def test_what_is_published_is_read_as_the_same(tmp_path: Path) -> None:
    tokenizer = with_said(
        begin=[1], ends=[2, 0], chat_template="x", bos_token="<s>", eos_token="</s>"
    )
    again = BpeTokenizer.from_folder(write(tmp_path, tokenizer))
    assert again.settings == tokenizer.settings
    text = f"<s>{TEXT}</s>"
    assert again.encode(text) == tokenizer.encode(text)
    path = tmp_path / "again"
    path.mkdir()
    assert BpeTokenizer.from_folder(write(path, again)).state() == again.state()


def test_a_tokenizer_that_says_no_more_than_its_file_keeps_its_state(tmp_path: Path) -> None:
    assert set(BPE.published()) > {"tokenizer_config.json", "generation_config.json"}
    assert BpeTokenizer.from_folder(write(tmp_path, BPE)).state() == BPE.state()


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
@pytest.mark.parametrize(
    "tokenizer",
    [
        ByteTokenizer(),
        CharTokenizer(characters=TEXT),
        BPE,
        with_said(begin=[1], eos_token="</s>"),
        with_said(begin=[1, 3], bos_token="<s>"),
    ],
    ids=["byte", "char", "bpe", "bpe with a beginning", "with two"],
)
def test_transformers_reads_the_same(tmp_path: Path, tokenizer: Tokenizer, family: str) -> None:
    reason = "needs pip install tisslm[test-transformers]"
    transformers = pytest.importorskip("transformers", reason=reason)
    (write(tmp_path, tokenizer) / "config.json").write_text(json.dumps({"model_type": family}))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs(TEXT).input_ids == [*tokenizer.begin, *tokenizer.encode(TEXT)]
    ids = tokenizer.encode(TEXT)
    assert theirs.decode(ids) == TEXT
    assert theirs.eos_token_id == tokenizer.end_of_text
    assert len(theirs) == tokenizer.vocab_size

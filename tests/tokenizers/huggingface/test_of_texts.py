"""The tokenizer of an exported encoder: the ids that training has, and what fills batches up."""

from __future__ import annotations

import json
from typing import Any

import pytest
import tokenizers

from tisslm.contracts import Tokenizer
from tisslm.tokenizers import BpeTokenizer, ByteTokenizer, CharTokenizer
from tisslm.tokenizers.huggingface import files_of_texts

TEXT = "It's a naïve fox.\n\n  The end."
SPECIAL = ["<|endoftext|>", "<s>", "<pad>"]
BPE = BpeTokenizer.from_text(TEXT * 4, vocab_size=300)
WITH_END = BpeTokenizer.from_text(TEXT * 4, vocab_size=300, special_tokens=SPECIAL)
WITH_BOTH = BpeTokenizer.from_state(WITH_END.state() | {"config": {"begin": [1]}})
PADDED = BpeTokenizer.from_state(WITH_END.state() | {"config": {"pad_token": "<pad>"}})


def files_of(tokenizer: Tokenizer) -> dict[str, Any]:
    published = tokenizer.published()
    assert published is not None
    begin, end = tokenizer.begin, tokenizer.end_of_text
    return files_of_texts(published, begin=begin, end=end, max_tokens=12)


@pytest.mark.parametrize(
    ("tokenizer", "pad"),
    [
        (ByteTokenizer(), "ĸ"),
        (CharTokenizer.from_text(TEXT), "ï"),
        (WITH_END, "<|endoftext|>"),
        (WITH_BOTH, "<|endoftext|>"),
        (PADDED, "<pad>"),
    ],
)
def test_a_text_has_the_ids_around_it(tokenizer: Tokenizer, pad: str) -> None:
    files = files_of(tokenizer)
    assert set(files) == {"tokenizer.json", "tokenizer_config.json"}
    config = files["tokenizer_config.json"]
    assert (config["pad_token"], config["model_max_length"]) == (pad, 12)
    theirs = tokenizers.Tokenizer.from_str(json.dumps(files["tokenizer.json"]))
    if pad not in SPECIAL:
        theirs.add_special_tokens([pad])  # as libraries do
    end = tokenizer.end_of_text
    around = [] if end is None else [end]
    expected = [*tokenizer.begin, *tokenizer.encode(TEXT), *around]
    assert theirs.encode(TEXT).ids == expected
    theirs.enable_truncation(12)
    room = 12 - len(tokenizer.begin) - len(around)
    expected = [*tokenizer.begin, *tokenizer.encode(TEXT)[:room], *around]
    assert theirs.encode(TEXT).ids == expected


def test_a_tokenizer_without_a_token_for_it_is_filled_up_by_what_is_in_no_text() -> None:
    pad = files_of(BPE)["tokenizer_config.json"]["pad_token"]
    assert len(pad) > 1
    assert not pad.isascii()
    assert pad not in TEXT
    assert BPE.published()["tokenizer_config.json"].get("pad_token") is None

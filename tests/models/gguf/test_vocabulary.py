"""Tokenizers in GGUF files: the same ids, whichever way."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from gguf_models import model_of, pieces_tokenizer, sentence_pieces

from tisslm.errors import CheckpointError, ConfigError
from tisslm.models.gguf import read_gguf, write_gguf
from tisslm.models.gguf.metadata import Keys
from tisslm.models.gguf.pre_tokenizers import PRE_TOKENIZERS
from tisslm.models.gguf.vocabulary import read_vocabulary
from tisslm.models.gguf.writing_vocabulary import vocabulary_keys
from tisslm.system.safe_files import CHECKPOINT
from tisslm.tokenizers import BpeTokenizer, ByteTokenizer, CharTokenizer

LONG = Path(copy.__file__).read_text()
TEXT = "It's the quick brown fox's 42nd  jump, HE'LL say.\n\n\té 東京 🙂 x<|endoftext|>y  "


class Configured(BpeTokenizer):
    """A tokenizer whose state has a ``config``, too."""

    def __init__(self, config, **options):
        super().__init__(**options)
        self.config = config

    def state(self):
        return super().state() | {"config": self.config}


def trained(**config):
    made = BpeTokenizer.from_text(TEXT * 9, vocab_size=290, special_tokens=["<|endoftext|>"])
    return Configured(config, tokenizer_json=made.json_text()) if config else made


def read(metadata):
    return read_vocabulary(Keys(metadata, "tokenizer", "f", CHECKPOINT))


def alike(state, tokenizer):
    found = BpeTokenizer.from_state(state)
    assert found.encode(TEXT) == tokenizer.encode(TEXT)
    assert found.decode(found.encode(TEXT)) == TEXT
    return found


def test_a_trained_tokenizer_comes_back(tmp_path):
    tokenizer = trained()
    write_gguf(tmp_path / "m.gguf", model_of("llama"), tokenizer)
    state = read_gguf(tmp_path / "m.gguf").tokenizer
    assert alike(state, tokenizer).end_of_text == tokenizer.end_of_text == 0
    assert state["config"] == {
        "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "ends": [0],
    }  # fmt: skip
    assert read_gguf(tmp_path / "m.gguf", tokenizer=False).tokenizer is None


def test_roles_ends_begin_and_template_come_back():
    config = {
        "bos_token": "<|endoftext|>",
        "eos_token": "a",
        "pad_token": "b",
        "unk_token": "c",
        "begin": [0],
        "chat_template": "{{ messages }}",
    }
    tokenizer = trained(**config)
    ids = {token: tokenizer.encode(token)[0] for token in "abc"}
    tokenizer.config["ends"] = [ids["a"], 0, ids["b"]]
    keys = vocabulary_keys(tokenizer, 290)
    assert keys["tokenizer.ggml.eos_token_id"] == ids["a"]
    assert keys["tokenizer.ggml.eot_token_id"] == 0
    assert keys["tokenizer.ggml.eom_token_id"] == ids["b"]
    state = read(keys)
    assert state["config"] == tokenizer.config
    inner = json.dumps(state["tokenizer"])
    tokenizers = pytest.importorskip("tokenizers")
    put = tokenizers.Tokenizer.from_str(inner).encode("ab")
    assert put.ids == [0, *tokenizer.encode("ab")]


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_every_way_to_split_has_its_name(name):
    pre = PRE_TOKENIZERS[name]
    content = trained().state()["tokenizer"]
    content["pre_tokenizer"] = pre.splitting
    content["normalizer"] = {"type": pre.normalizer} if pre.normalizer else None
    content["model"]["ignore_merges"] = pre.ignore_merges
    tokenizer = BpeTokenizer(tokenizer_json=json.dumps(content))
    keys = vocabulary_keys(tokenizer, 290)
    assert PRE_TOKENIZERS[keys["tokenizer.ggml.pre"]] == pre
    keys["tokenizer.ggml.pre"] = name
    alike(read(keys), tokenizer)


def test_bytes_are_a_vocabulary_without_merges():
    keys = vocabulary_keys(ByteTokenizer(), 256)
    found = alike(read(keys), ByteTokenizer())
    assert found.vocab_size == 256
    # llama.cpp would take the 12th token for the end: a byte that no text has is named
    assert keys["tokenizer.ggml.eos_token_id"] == 0xFF


def test_bytes_that_a_folder_had_are_written_as_bytes():
    content = ByteTokenizer().published()["tokenizer.json"]
    of_folder = BpeTokenizer(tokenizer_json=json.dumps(content))
    assert alike(read(vocabulary_keys(of_folder, 256)), of_folder).vocab_size == 256
    lower = {**content, "normalizer": {"type": "Lowercase"}}
    with pytest.raises(ConfigError, match="in a way that has a name"):
        vocabulary_keys(BpeTokenizer(tokenizer_json=json.dumps(lower)), 256)


def test_a_model_with_more_ids_has_tokens_that_no_text_has():
    keys = vocabulary_keys(ByteTokenizer(), 300)
    assert keys["tokenizer.ggml.tokens"][256:258] == ["[PAD256]", "[PAD257]"]
    assert keys["tokenizer.ggml.token_type"][255:258].tolist() == [1, 5, 5]
    assert keys["tokenizer.ggml.eos_token_id"] == 256
    assert BpeTokenizer.from_state(read(keys)).vocab_size == 256


def test_characters_other_splits_and_too_many_ids_are_refused():
    with pytest.raises(ConfigError, match="expected a tokenizer of byte pairs or bytes, got CharT"):
        vocabulary_keys(CharTokenizer.from_text("abc"), 300)
    content = trained().state()["tokenizer"]
    content["pre_tokenizer"] = {"type": "Whitespace"}
    with pytest.raises(ConfigError, match=r"that splits texts in a way that has a name .*gpt-2"):
        vocabulary_keys(BpeTokenizer(tokenizer_json=json.dumps(content)), 300)
    with pytest.raises(ConfigError, match="expected a tokenizer of at most 200 ids"):
        vocabulary_keys(ByteTokenizer(), 200)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ggml.model": "bert"}, "tokenizer.ggml.model: expected gpt2 or llama, got 'bert'"),
        ({"ggml.pre": "gemma4"}, "tokenizer.ggml.pre: expected a way to split .*smollm.*'gemma4'"),
        ({"ggml.pre": None}, "tokenizer.ggml.pre: .* got 'default'"),
        ({"ggml.tokens": None}, "tokenizer.ggml.tokens: expected a list of texts, got none"),
        ({"ggml.tokens": ["a", "a"]}, "expected different tokens, got some twice"),
        ({"ggml.token_type": np.zeros(3, np.int32)}, "token_type: expected a list of 290 numbers"),
        ({"ggml.merges": ["a b c"]}, "expected two tokens that make a third, got 'a b c'"),
        ({"ggml.merges": ["a 東"]}, "expected two tokens that make a third"),
        ({"ggml.eos_token_id": 290}, "eos_token_id: expected an id below 290"),
        ({"ggml.add_bos_token": 1}, "add_bos_token: expected true or false"),
        ({"chat_template": ["a"]}, "tokenizer.chat_template: expected a text"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_in_a_sentence(changes, reason):
    keys = vocabulary_keys(trained(), 290)
    keys |= {f"tokenizer.{key}": value for key, value in changes.items()}
    with pytest.raises(CheckpointError, match=reason):
        read({key: value for key, value in keys.items() if value is not None})


# --------------------------------------------------------------------------- SentencePiece


def test_pairs_follow_from_scores():
    content = pieces_tokenizer(
        "the quick brown fox jumps over the lazy dog and the quick cat " * 20
    )
    tokens, scores, kinds = sentence_pieces(content)
    keys = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": np.array(scores, np.float32),
        "tokenizer.ggml.token_type": np.array(kinds, np.int32),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    state = read(keys)
    assert (state["config"]["begin"], state["config"]["ends"]) == ([1], [2])
    found, true = BpeTokenizer.from_state(state), BpeTokenizer(tokenizer_json=json.dumps(content))
    for text in ("the quick brown fox", "lazy  dogs over é東", "  x", "the</s>fox", LONG):
        assert found.encode(text) == true.encode(text)
    assert found.decode(found.encode("the quick é")) == "the quick é"
    with pytest.raises(CheckpointError, match=r"tokenizer\.ggml\.scores: expected a number for"):
        read({key: value for key, value in keys.items() if not key.endswith("scores")})
    keys["tokenizer.ggml.tokens"] = [*tokens[:-1], "x" * 2**22]
    with pytest.raises(CheckpointError, match="expected at most 4194304 characters of tokens"):
        read(keys)

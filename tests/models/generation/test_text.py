"""Text up to a stop string: cut before it, whatever pieces it comes in, and held back no longer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisslm import Transformer, TransformerConfig
from tisslm.errors import ConfigError, NonFiniteError
from tisslm.models.generation import Generation, Sampling, Stops, beginning, sample
from tisslm.models.generation.text import samples
from tisslm.tokenizers import BpeTokenizer, ByteTokenizer

LETTERS = st.text("ab\n", max_size=12)


def through(strings, parts):
    stops, out = Stops(strings), []
    for part in parts:
        out.append(stops.add(part))
    return "".join(out) + stops.rest(), stops.found


@given(st.lists(LETTERS), st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3))
def test_a_text_is_cut_before_the_first_stop_string(parts, strings):
    whole = "".join(parts)
    ends = [n for n in range(len(whole) + 1) if any(whole[:n].endswith(s) for s in strings)]
    found, stopped = through(strings, parts)
    assert stopped == bool(ends)
    if not ends:
        assert found == whole
    else:
        assert whole.startswith(found)
        assert any(whole[len(found) :].startswith(s) for s in strings)
        assert not any(s in found for s in strings)


def test_only_what_may_become_a_stop_string_is_held_back():
    stops = Stops(["User:", "\n\n"])
    assert [stops.add(p) for p in ["Hi\n", "Us", "ers", "\n", "U", "ser", ": x", "y"]] == [
        "Hi", "\n", "Users", "", "\n", "", "", "",
    ]  # fmt: skip
    assert stops.found
    assert stops.rest() == ""


def test_what_was_held_back_comes_at_the_end():
    assert through(["abc"], ["xa", "b"]) == ("xab", False)


def test_an_empty_stop_string_is_refused():
    with pytest.raises(ConfigError) as caught:
        Stops(["a", ""])
    assert str(caught.value) == (
        "stop: expected strings of at least one character, got an empty one"
    )
    with pytest.raises(ConfigError) as caught:
        Stops("END")
    assert str(caught.value) == (
        "stop: expected a sequence of strings, got the string 'END'; put it into a list"
    )


@pytest.fixture(scope="module")
def model() -> Transformer:
    shape = TransformerConfig(n_layer=1, n_head=2, n_embd=16, seq_len=24, vocab_size=256)
    return Transformer(shape, seed=5)


def test_a_sample_ends_before_a_stop_string(model):
    tokenizer, draw = ByteTokenizer(), Sampling(seed=2)
    whole = "".join(sample(model, tokenizer, "ab", 60, draw))
    string = whole[20:22]
    found = "".join(sample(model, tokenizer, "ab", 60, draw, stop=["never", string]))
    assert found == whole[: whole.index(string)]


def test_a_row_that_stops_is_computed_no_further(model):
    tokenizer, prompts = ByteTokenizer(), [[97], [98, 99]]
    draws = [Sampling(seed=2), Sampling(seed=3)]
    texts = [
        "".join(sample(model, tokenizer, p, 40, d)) for p, d in zip(["a", "bc"], draws, strict=True)
    ]
    running = Generation(model, prompts, 40, draws)
    found = ["", ""]
    for row, piece in samples(running, tokenizer, prompts, [texts[0][3]]):
        found[row] += piece
    assert found[0] == texts[0][: texts[0].index(texts[0][3])]
    assert found[1] == texts[1][: (texts[1] + texts[0][3]).index(texts[0][3])]
    assert running.new_tokens < 80


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_of_no_numbers_writes_nothing(value, temperature):
    shape = TransformerConfig(n_layer=1, n_head=2, n_embd=16, seq_len=24, vocab_size=256)
    broken = Transformer(shape, seed=5)
    broken.parameters["final_norm.weight"].data[...] = value
    running = Generation(broken, [[97, 98]], 4, [Sampling(temperature)])
    with pytest.raises(NonFiniteError, match=r"logits that are numbers, got .* of token 3; the"):
        list(running)


def test_a_text_ends_where_the_tokenizer_says():
    names = ["<|pad|>", "<|endoftext|>"]
    tokenizer = BpeTokenizer.from_text("a b a b\n", vocab_size=260, special_tokens=names)
    shape = TransformerConfig(
        n_layer=1, n_head=2, n_embd=16, seq_len=24, vocab_size=tokenizer.vocab_size
    )
    model = Transformer(shape, seed=5)
    model.parameters["embedding.token.weight"].data[1] *= 40  # the end is likely, soon
    assert tokenizer.ends == (1,)
    assert ByteTokenizer().ends == ()
    assert beginning(tokenizer, "") == [1]
    lengths = set()
    for seed in range(8):
        new = list(Generation(model, [[5]], 200, [Sampling(seed=seed)], ends=tokenizer.ends))
        assert all(token != 1 for _, token in new)
        lengths.add(len(new))
        text = "".join(sample(model, tokenizer, "a", 200, Sampling(seed=seed)))
        assert "<|endoftext|>" not in text
    assert max(lengths) < 200

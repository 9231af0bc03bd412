"""Exported encoders, as sentence-transformers opens them: ids, prompts and vectors.

Needs sentence-transformers and PyTorch: ``pip install tisslm[test-embeddings]``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedding_runs import shape_of

from tisslm.models.encoder.text_encoder import TextEncoder
from tisslm.tokenizers import BpeTokenizer, ByteTokenizer, CharTokenizer
from tisslm.workflows.embedding import TextEmbedder, load_encoder
from tisslm.workflows.export import TextForm, write_folder

NEEDS = "needs pip install tisslm[test-embeddings]"
torch = pytest.importorskip("torch", reason=NEEDS)
peer = pytest.importorskip("sentence_transformers", reason=NEEDS)

TEXTS = ["a small text", "x", "Another, longer than it should be, or nearly", "naïve \u2028 fox"]
PROMPT = "query: "
TOKENIZERS: dict[str, Any] = {
    "byte": ByteTokenizer(),
    "char": CharTokenizer.from_text("".join(TEXTS) + PROMPT),
    "bpe": BpeTokenizer.from_texts(TEXTS * 9, vocab_size=280),
    "bpe with an end": BpeTokenizer.from_texts(
        TEXTS * 9, vocab_size=280, special_tokens=["<|endoftext|>"]
    ),
}
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("llama", "byte", {"pooling": "mean"}),
    ("llama", "byte", {"pooling": "mean", "causal": False}),
    ("llama", "bpe with an end", {"pooling": "last", "projection": 24}),
    ("gpt2", "char", {"pooling": "max", "projection": 6, "normalize": False}),
    ("gpt_neox", "bpe", {"pooling": "last", "normalize": False}),
    ("mistral", "bpe", {"pooling": "mean"}),
    ("qwen2", "bpe with an end", {"pooling": "mean", "projection": 8}),
    ("qwen3", "bpe", {"pooling": "max"}),
    ("qwen3", "bpe", {"pooling": "mean", "causal": False, "projection": 8}),
    ("gpt2", "bpe", {"pooling": "mean", "causal": False}),
    ("gpt_neox", "char", {"pooling": "max", "causal": False}),
]


@pytest.mark.parametrize(("family", "name", "changes"), CASES)
def test_vectors(tmp_path: Path, family: str, name: str, changes: dict[str, Any]) -> None:
    tokenizer = TOKENIZERS[name]
    shape = shape_of(family=family, seq_len=24, vocab_size=tokenizer.vocab_size, **changes)
    model = TextEncoder(shape, seed=2)
    for parameter in model.parameters:
        parameter.data[...] += np.random.default_rng(5).normal(0, 0.1, parameter.shape)
    form = TextForm(20, {"query": PROMPT})
    write_folder(tmp_path / "out", model, tokenizer, texts=form)
    theirs = peer.SentenceTransformer(str(tmp_path / "out"), local_files_only=True)
    ours = TextEmbedder(model, tokenizer, prompts=form.prompts, max_tokens=20)
    assert theirs.get_max_seq_length() == 20
    assert theirs.similarity_fn_name == "cosine"
    for method in ("encode", "encode_query", "encode_document"):
        expected = getattr(ours, method)(TEXTS)
        for found in (
            getattr(theirs, method)(TEXTS),  # padded to the longest
            np.stack([getattr(theirs, method)(text) for text in TEXTS]),
        ):
            assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    assert not np.allclose(ours.encode(TEXTS), ours.encode_query(TEXTS), atol=1e-3)


def test_what_it_saves_is_read(tmp_path: Path) -> None:
    """A folder of theirs, made anew by them from ours, is the same encoder."""
    tokenizer = TOKENIZERS["bpe"]
    own = {"family": "llama", "projection": 8, "causal": False}
    shape = shape_of(vocab_size=tokenizer.vocab_size, **own)
    form = TextForm(9, {"query": PROMPT}, "dot")
    write_folder(tmp_path / "out", TextEncoder(shape, seed=2), tokenizer, texts=form)
    theirs = peer.SentenceTransformer(str(tmp_path / "out"), local_files_only=True)
    theirs.save(str(tmp_path / "theirs"))
    again = load_encoder(tmp_path / "theirs")
    assert again.similarity_name == "dot"
    for method in ("encode", "encode_query"):
        expected = getattr(theirs, method)(TEXTS)
        assert np.abs(getattr(again, method)(TEXTS) - expected).max() <= 1e-5

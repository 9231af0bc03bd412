"""Files that are exported, as llama.cpp computes them: log-probabilities, and greedy text.

Needs xllamacpp, which has llama.cpp built in: ``pip install xllamacpp``.
"""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf_models import CASES, model_of, pieces_tokenizer, sentence_pieces
from llama_peer import Peer

from tisslm import TextDataset, Trainer, TrainingConfig, Transformer, TransformerConfig
from tisslm.config import AdapterConfig
from tisslm.models.generation import Sampling, sample
from tisslm.models.gguf import read_gguf, write_gguf
from tisslm.models.gguf.pre_tokenizers import PRE_TOKENIZERS, PreTokenizer
from tisslm.models.gguf.writing_adapter import write_gguf_adapter
from tisslm.models.tuning.tuning import Tuning
from tisslm.system.gguf_files import GgufFile, Tensor, gguf_chunks
from tisslm.tokenizers import BpeTokenizer, ByteTokenizer

pytest.importorskip("xllamacpp", reason="needs pip install xllamacpp")

#: llama.cpp looks GELU up in a table of float16, so a network of two such layers is no closer.
PRECISION = {"gpt2": 1e-2, "gptneox": 1e-2, "other": 1e-4}

CHARACTERS = [*map(chr, range(0x21, 0x7F)), "Ġ", "Ċ"]


def ascii_tokenizer() -> BpeTokenizer:
    """Return a tokenizer none of whose tokens is a part of a character."""
    content = BpeTokenizer.from_text("a b", vocab_size=256).state()["tokenizer"]
    content["model"] |= {"vocab": {c: i for i, c in enumerate(CHARACTERS)}, "merges": []}
    content["added_tokens"] = [
        {"id": len(CHARACTERS), "content": "<|endoftext|>", "single_word": False, "lstrip": False,
         "rstrip": False, "normalized": False, "special": True}
    ]  # fmt: skip
    return BpeTokenizer(tokenizer_json=json.dumps(content))


#: What comes back from a file as another model with the same logits.
WRITTEN_OTHERWISE = [
    ("gpt2", {"bias": False, "n_hidden": 80}),
    ("qwen2", {"qkv_bias": False}),
    ("gpt_neox", {"tie_embeddings": True, "bias": False, "n_hidden": 80}),
    ("llama", {"family": "mistral", "window": 48, "n_kv_head": 1}),
]


@pytest.mark.parametrize(
    ("case", "targets"),
    [
        ("llama", ["q", "k", "v", "o", "gate", "up", "down"]),  # whose rows of q and k are permuted
        ("qwen3", ["q", "down"]),
        ("gpt2", ["qkv", "up"]),
    ],
)
def test_adapters_beside_the_file_of_their_model(
    tmp_path: Path, case: str, targets: list[str]
) -> None:
    """What llama.cpp computes of two files is what we compute of one model."""
    base = model_of(case, vocab_size=97)
    adapter = AdapterConfig(rank=3, alpha=5.0, targets=targets, rslora=True)
    model = Transformer(base.config, tuning=Tuning(adapter=adapter))
    rng = np.random.default_rng(1)
    for p in model.parameters:
        if p.trainable:
            p.data[...] = rng.normal(scale=0.2, size=p.shape)
        else:
            p.data[...] = base.parameters[p.name].data
    write_gguf(tmp_path / "m.gguf", base, ascii_tokenizer())
    arrays = {p.name: p.data for p in model.parameters if p.trainable}
    write_gguf_adapter(tmp_path / "a.gguf", model.config, adapter, arrays)
    prompt = [1, 2, 3, 50, 7]
    with Peer(tmp_path / "m.gguf", tmp_path / "a.gguf") as peer:
        theirs = peer.log_probabilities(prompt, 97)
    logits = model.last_logits(np.array(prompt, np.int32)[None])[0].astype(np.float64)
    ours = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
    worst = max(abs(ours[i] - theirs[i]) for i in theirs)
    assert worst <= PRECISION["gpt2" if case == "gpt2" else "other"]
    plain = base.last_logits(np.array(prompt, np.int32)[None])[0]
    assert abs(plain - logits).max() > 0.1


@pytest.mark.parametrize(
    ("case", "others"), [*((case, {}) for case in CASES), *WRITTEN_OTHERWISE]
)  # fmt: skip
def test_log_probabilities(tmp_path: Path, case: str, others: dict[str, Any]) -> None:
    tokenizer = ascii_tokenizer()
    model = model_of(case, vocab_size=tokenizer.vocab_size, **others)
    write_gguf(tmp_path / "m.gguf", model, tokenizer)
    layers = {"gpt2": "gpt2", "gpt_neox": "gptneox"}.get(model.family, "other")
    prompts = ([5], [1, 2, 3], [*range(40)])
    with Peer(tmp_path / "m.gguf") as peer:
        answers = [peer.log_probabilities(prompt, model.vocab_size) for prompt in prompts]
    for prompt, theirs in zip(prompts, answers, strict=True):
        logits = model.last_logits(np.array(prompt, np.int32)[None])[0].astype(np.float64)
        ours = logits - logits.max()
        ours -= np.log(np.exp(ours).sum())
        assert len(theirs) == len(ours)
        worst = max(abs(ours[i] - theirs[i]) for i in theirs)
        assert worst <= PRECISION[layers], (prompt, worst)


def trained(tmp_path: Path, **shape: Any) -> tuple[Transformer, BpeTokenizer]:
    """Return a model that has learned a little, and its tokenizer."""
    folder = Path(json.__file__).parent
    text = "".join(path.read_text() for path in sorted(folder.glob("*.py")))
    (tmp_path / "text.txt").write_text(text)
    tokenizer = BpeTokenizer.from_text(text, vocab_size=512, special_tokens=["<|endoftext|>"])
    sizes = {"n_layer": 2, "n_head": 4, "n_embd": 64, "seq_len": 128, "vocab_size": 512}
    model = Transformer(TransformerConfig(**sizes, **shape))
    Trainer(
        model,
        dataset=TextDataset(tmp_path / "text.txt", tokenizer),
        config=TrainingConfig(
            batch_size=4, max_steps=600, learning_rate=2e-3, validation_frequency=0,
            output_dir=str(tmp_path / "run"),
        ),
        sinks=(),
    ).train()  # fmt: skip
    return model, tokenizer


@pytest.mark.parametrize(
    "shape",
    [
        {"family": "llama", "n_kv_head": 2, "tie_embeddings": True},
        {"family": "gpt2"},
        {"family": "gpt2", "activation": "gelu_tanh", "bias": False},
    ],
    ids=["llama", "gpt2", "gpt2 without biases"],
)
def test_a_hundred_greedy_tokens(tmp_path: Path, shape: dict[str, Any]) -> None:
    model, tokenizer = trained(tmp_path, **shape)
    write_gguf(tmp_path / "m.gguf", model, tokenizer)
    prompt = "def dump(obj, "
    ours = "".join(sample(model, tokenizer, prompt, 100, Sampling(temperature=0)))
    with Peer(tmp_path / "m.gguf") as peer:
        theirs = peer.complete(prompt, 100, ignore_eos=True)
    assert len(set(ours)) > 8
    assert theirs["text"] == ours


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "q8_0"])
@pytest.mark.parametrize("case", ["llama tied", "gpt2 untied"])
def test_fewer_bits_are_near(tmp_path: Path, case: str, dtype: str) -> None:
    tokenizer = ascii_tokenizer()
    model = model_of(case, vocab_size=tokenizer.vocab_size)
    write_gguf(tmp_path / "m.gguf", model, tokenizer, dtype)
    with Peer(tmp_path / "m.gguf") as peer:
        theirs = peer.log_probabilities([1, 2, 3], tokenizer.vocab_size)
    logits = model.last_logits(np.array([[1, 2, 3]], np.int32))[0].astype(np.float64)
    ours = logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
    errors = [abs(ours[i] - theirs[i]) for i in theirs]
    assert 0 < np.sqrt(np.mean(np.square(errors))) < 0.05 * ours.std()  # q8_0: of activations, too


#: Everything that ways to split differ in: digits, cases, contractions, marks, white space.
TEXT = (
    "It's the quick 1234567 brown fox's HE'LL say: doesn't  camelCase XMLHttp,\n\n\n  the\t\tend"
    " — naïve 東京 русский x_1 == y2!!?\r\n   (a/b) //c 12ab34 $5.00 'tis  \n "
)


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_texts_are_split_as_llama_cpp_does(tmp_path: Path, name: str) -> None:
    pre = PRE_TOKENIZERS[name]
    content = trained_tokenizer(pre)
    tokenizer = BpeTokenizer(tokenizer_json=json.dumps(content))
    model = model_of("llama", vocab_size=tokenizer.vocab_size, seq_len=256)
    write_gguf(tmp_path / "m.gguf", model, tokenizer)
    ids = tokenizer.encode(TEXT)
    assert len(ids) < 0.8 * len(TEXT.encode())
    with Peer(tmp_path / "m.gguf") as peer:
        assert peer.ids(TEXT) == ids


def trained_tokenizer(pre: PreTokenizer) -> dict[str, Any]:
    """Return a tokenizer.json whose pairs were learned across words: only the split is between."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        [TEXT, TEXT],
        trainers.BpeTrainer(vocab_size=450, initial_alphabet=alphabet, show_progress=False),
    )
    content: dict[str, Any] = json.loads(inner.to_str())
    content["pre_tokenizer"], content["decoder"] = pre.splitting, {"type": "ByteLevel"}
    content["decoder"] |= {"add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    content["normalizer"] = {"type": pre.normalizer} if pre.normalizer else None
    content["model"]["ignore_merges"] = pre.ignore_merges
    return content


def test_a_text_of_bytes(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", model_of("llama", vocab_size=256), ByteTokenizer())
    text = f"{TEXT}🙂"
    with Peer(tmp_path / "m.gguf") as peer:
        assert peer.ids(text) == list(text.encode())


def test_pieces_of_text(tmp_path: Path) -> None:
    """A vocabulary of SentencePiece, whose merges follow from scores."""
    tokens, scores, kinds = sentence_pieces(
        pieces_tokenizer(Path(urllib.request.__file__).read_text())
    )
    write_gguf(tmp_path / "m.gguf", model_of("llama", vocab_size=len(tokens)), None)
    file = GgufFile(tmp_path / "m.gguf")
    keys = {
        **file.metadata,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": np.array(scores, np.float32),
        "tokenizer.ggml.token_type": np.array(kinds, np.int32),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }
    tensors = {
        name: Tensor(place.shape, place.kind, lambda name=name: file[name])
        for name, place in file.tensors.items()
    }
    (tmp_path / "pieces.gguf").write_bytes(b"".join(gguf_chunks(keys, tensors)))
    state = read_gguf(tmp_path / "pieces.gguf").tokenizer
    assert state is not None
    tokenizer = BpeTokenizer.from_state(state)
    with Peer(tmp_path / "pieces.gguf") as peer:
        for text in (TEXT, " x", "the é", "🙂 brown  fox", Path(json.__file__).read_text()):
            assert peer.ids(text) == tokenizer.encode(text)

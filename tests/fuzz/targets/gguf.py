"""GGUF files: their metadata, places of tensors, vocabulary, and bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzz.mutators import INTEGERS, changed_bytes, changed_value
from fuzz.targets.vocabulary import use

from tisslm.models.gguf import read_gguf, write_gguf
from tisslm.models.transformer import Transformer, TransformerConfig
from tisslm.system.gguf_files import GgufFile, Tensor, gguf_chunks
from tisslm.tokenizers.bpe import BpeTokenizer

TEXT = "It was the best of times,\n\tit was the worst of times: été 東京 🙂 12345. "
SIZES = {"n_layer": 1, "n_head": 2, "n_embd": 32, "seq_len": 8, "vocab_size": 300}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
SHAPES = {
    "gpt2": ({"family": "gpt2"}, "fp32"),
    "llama": ({"family": "llama", "rope_scaling": LLAMA3}, "q8_0"),
    "qwen3": ({"family": "qwen3", "n_kv_head": 1}, "bf16"),
}


class Files:
    """A file of each kind of model, with a vocabulary of byte pairs or of pieces."""

    def __init__(self, folder: Path) -> None:
        tokenizer = BpeTokenizer.from_text(TEXT * 3, vocab_size=290, special_tokens=["</s>"])
        self.good: dict[str, Path] = {}
        folder.mkdir(parents=True)
        for name, (shape, dtype) in SHAPES.items():
            path = self.good[name] = folder / f"{name}.gguf"
            write_gguf(path, Transformer(TransformerConfig(**SIZES, **shape)), tokenizer, dtype)
        path = self.good["pieces"] = folder / "pieces.gguf"
        path.write_bytes(self._rewritten(self.good["llama"], lambda keys: keys.update(_pieces())))

    def copy(self, case: Path) -> None:
        case.mkdir(parents=True)
        (case / "m.gguf").write_bytes(self.good["pieces"].read_bytes())

    def change(self, rng: Random, case: Path) -> None:
        case.mkdir(parents=True)
        path = self.good[rng.choice(sorted(self.good))]
        kind = rng.random()
        if kind < 0.5:
            data = self._rewritten(path, lambda keys: _change(rng, keys))
        else:  # most of a file is weights, which may be anything
            data = path.read_bytes()
            first = min(place.start for place in GgufFile(path).tensors.values())
            start = rng.choice([0, 0, max(0, first - 3000)])
            data = data[:start] + changed_bytes(rng, data[start:], rng.choice([24, 300, 3000]))
        (case / "m.gguf").write_bytes(data)

    def _rewritten(self, path: Path, change: Callable[[dict[str, Any]], None]) -> bytes:
        file = GgufFile(path)
        keys = dict(file.metadata)
        change(keys)
        tensors = {
            name: Tensor(place.shape, place.kind, lambda name=name: file[name])
            for name, place in file.tensors.items()
        }
        return b"".join(gguf_chunks(keys, tensors))

    def readers(self, case: Path) -> list[Callable[[], Any]]:
        def write_text() -> None:
            model = Transformer.from_pretrained(case / "m.gguf", seq_len=8)
            model.last_logits(np.zeros((1, 4), np.int32))

        def tokenize() -> None:
            state = read_gguf(case / "m.gguf").tokenizer
            if state is not None:
                use(BpeTokenizer.from_state(state), TEXT)

        return [write_text, tokenize]


def _pieces() -> dict[str, Any]:
    """Return a vocabulary of SentencePiece's kind."""
    words = ["\u2581", "t", "h", "e", "th", "the", "\u2581the", "i", "it", "s"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *words]
    tokens += [f"[PAD{i}]" for i in range(len(tokens), 300)]
    kinds = [2, 3, 3, *[6] * 256, *[1] * len(words)]
    kinds += [5] * (300 - len(kinds))
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array(kinds, np.int32),
        "tokenizer.ggml.scores": -np.arange(300, dtype=np.float32),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }


def _change(rng: Random, keys: dict[str, Any]) -> None:
    """Change one to three values of metadata, or take keys away."""
    for _ in range(rng.randint(1, 3)):
        key = rng.choice(sorted(keys))
        value = keys[key]
        if rng.random() < 0.15:
            del keys[key]
        elif isinstance(value, np.ndarray):
            at, new = rng.randrange(len(value)), rng.choice(INTEGERS[:-2]) % 2**31
            changed = value.copy()
            changed[at] = new
            keys[key] = rng.choice([changed, value[:-1], np.concatenate([value, value])])
        else:
            new = changed_value(rng, {"value": deepcopy(value)}, 0.9).get("value")
            if _can_be_written(new):
                keys[key] = new


def _can_be_written(value: Any) -> bool:
    """Return True for a value that has a type in the format."""
    try:
        if isinstance(value, list):
            return all(isinstance(one, str) and one.encode() is not None for one in value)
        if isinstance(value, str):
            return value.encode() is not None
        if isinstance(value, float):
            return bool(struct.pack("<f", value))
        return isinstance(value, bool) or (isinstance(value, int) and 0 <= value < 2**32)
    except (UnicodeEncodeError, OverflowError):
        return False

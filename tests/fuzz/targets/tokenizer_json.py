"""A ``tokenizer.json``: by its path, and in a checkpoint that verifies."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from checkpoints import reseal
from fuzz.mutators import changed_bytes, changed_value, written
from fuzz.targets.vocabulary import use

from tisslm.checkpoint import (
    CONFIG,
    MODEL,
    OPTIMIZER,
    TRAINER,
    TRAINER_ARRAYS,
    Checkpoint,
    tokenizer_files,
    write,
)
from tisslm.config.model import TransformerConfig
from tisslm.models.generation import Sampling, sample
from tisslm.models.transformer import Transformer
from tisslm.registry import load_registry
from tisslm.tokenizers.bpe import BpeTokenizer
from tisslm.workflows.load_model import load_model

TEXT = "It was the best of times,\n\tit was the worst of times: été 東京 🙂 12345. "
WORDS = ["[UNK]", "[CLS]", "[SEP]", "it", "was", "the", "##s", "times", "best", *"abcdefghit1."]
MODELS = ("byte-level", "word pieces", "words", "unigram", "bytes", "byte-level")


def tokenizers_of() -> dict[str, dict[str, Any]]:
    """Return the content of a tokenizer.json of each kind, with as many parts as there are."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    byte_level = BpeTokenizer.from_text(TEXT * 3, vocab_size=280, special_tokens=["<|endoftext|>"])
    vocabulary = {word: i for i, word in enumerate(WORDS)}

    pieces = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    pieces.normalizer = normalizers.BertNormalizer()
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pieces.decoder = decoders.WordPiece()
    pieces.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 1), ("[SEP]", 2)]
    )
    pieces.enable_truncation(64, stride=8)
    pieces.enable_padding(length=32, pad_to_multiple_of=8)
    pieces.add_special_tokens(["[CLS]", "[SEP]"])

    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(),
         normalizers.Strip(), normalizers.Replace("t", "tt"), normalizers.Prepend("_"),
         normalizers.Nmt()]
    )  # fmt: skip
    words.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits(True),
         pre_tokenizers.FixedLength(5), pre_tokenizers.CharDelimiterSplit("x"),
         pre_tokenizers.UnicodeScripts()]
    )  # fmt: skip
    words.decoder = decoders.Sequence(
        [decoders.Replace("_", " "), decoders.Fuse(), decoders.Strip(" ", 1, 1),
         decoders.CTC("[PAD]", "|", True)]
    )  # fmt: skip
    words.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))

    scores = [(word, -float(i)) for i, word in enumerate([*WORDS, "\u2581it", "\u2581the"])]
    unigram = Tokenizer(models.Unigram(scores, unk_id=0, byte_fallback=False))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    unigram.decoder = decoders.Metaspace()
    unigram.add_tokens(["best of"])

    tokens = {f"<0x{i:02X}>": i for i in range(256)} | {"i": 256, "t": 257, "it": 258, "<unk>": 259}
    made = models.BPE(tokens, [("i", "t")], unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    bytes_ = Tokenizer(made)
    bytes_.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    bytes_.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    bytes_.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.BPEDecoder("</w>")])
    bytes_.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 2))

    made_of = {"word pieces": pieces, "words": words, "unigram": unigram, "bytes": bytes_}
    return {
        "byte-level": byte_level.state()["tokenizer"],
        **{name: json.loads(inner.to_str()) for name, inner in made_of.items()},
    }


class Files:
    """Tokenizers of each kind, and a checkpoint whose tokenizer is exchanged for one of them."""

    def __init__(self, folder: Path) -> None:
        self.good = tokenizers_of()
        self.registry = load_registry()
        config = TransformerConfig(n_layer=1, n_head=2, n_embd=8, seq_len=8, vocab_size=300)
        model = Transformer(config, seed=1)
        files = {
            MODEL: model.parameters.state(),
            CONFIG: config.values(),
            OPTIMIZER: {"step": np.array([1])},
            TRAINER: {"global_step": 1},
            TRAINER_ARRAYS: {},
        }
        tokenizer = {"name": "bpe", "state": {"tokenizer": self.good["byte-level"]}}
        self.checkpoint = write(folder, 1, Checkpoint(files | tokenizer_files(tokenizer)))

    def _write(self, case: Path, content: bytes) -> None:
        case.mkdir(parents=True)
        (case / "tokenizer.json").write_bytes(content)
        shutil.copytree(self.checkpoint, case / "checkpoint-1")
        (case / "checkpoint-1" / "tokenizer.json").write_bytes(content)
        reseal(case / "checkpoint-1")

    def copy(self, case: Path) -> None:
        self._write(case, json.dumps(self.good["words"]).encode())

    def change(self, rng: Random, case: Path) -> None:
        good = self.good[rng.choice(MODELS)]
        if rng.random() < 0.1:
            self._write(case, changed_bytes(rng, json.dumps(good).encode()))
            return
        # most of a tokenizer is its vocabulary: a change within one of its parts alone
        part = rng.choice(sorted(good))
        content = json.loads(json.dumps({**good, part: self.good[rng.choice(MODELS)][part]}))
        if rng.random() < 0.9:
            alike = rng.choice([0.3, 0.95])
            content[part] = changed_value(rng, content[part], alike)
        if rng.random() < 0.2:
            content = changed_value(rng, content)
        self._write(case, written(content))

    def readers(self, case: Path) -> list[Callable[[], Any]]:
        def write_text() -> None:
            model, tokenizer = load_model(case / "checkpoint-1", registry=self.registry)
            assert tokenizer is not None
            list(sample(model, tokenizer, TEXT[:5], 3, Sampling(seed=1)))

        return [
            lambda: use(BpeTokenizer(path=case / "tokenizer.json"), TEXT),
            lambda: use(BpeTokenizer(path=case / "tokenizer.json"), "xyz [CLS] <|endoftext|>"),
            write_text,
        ]

"""Vocabulary files: ranks of tiktoken, and a tokenizer's name and state."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from fuzz.mutators import changed_bytes, changed_json, changed_lines
from tisslm_tiktoken.tokenizer import TiktokenTokenizer

from tisslm.contracts import Tokenizer
from tisslm.registry import load_registry
from tisslm.tokenizers.char import CharTokenizer
from tisslm.workflows.tokenize.choice import load_tokenizer

TEXT = "It's the quick brown fox's 42nd  jump.\n\n\té 東京 🙂"
TOKENS = [*(bytes([i]) for i in range(256)), b"th", b"qu", b"  ", b"the", b"ick"]
RANKS = "".join(f"{base64.b64encode(token).decode()} {i}\n" for i, token in enumerate(TOKENS))


def use(tokenizer: Tokenizer, text: str = TEXT) -> None:
    """Call what a run calls."""
    ids = tokenizer.encode_array(text)
    tokenizer.encode_batch([text, ""])
    tokenizer.decode(ids.tolist())
    tokenizer.count_bytes(ids)
    tokenizer.find_cut(text, 3)
    type(tokenizer).from_state(json.loads(json.dumps(tokenizer.state())))
    assert tokenizer.end_of_text is None or tokenizer.end_of_text < tokenizer.vocab_size


def _rank_line(rng: Random, line: bytes) -> bytes:
    token, _, rank = line.partition(b" ")
    if rng.random() < 0.5:
        return token + b" " + str(rng.choice([0, 255, 2**22 - 1, 2**22, 2**40, -1])).encode()
    return changed_bytes(rng, token) + b" " + rank


class Files:
    """A file of ranks, and the states of the tokenizers that keep one."""

    def __init__(self, folder: Path) -> None:
        self.registry = load_registry()
        tiktoken = TiktokenTokenizer(ranks=RANKS, pattern="gpt2", special_tokens=["<|endoftext|>"])
        states = {"char": CharTokenizer.from_text(TEXT), "tiktoken": tiktoken}
        self.good = {
            f"{name}/tokenizer_state.json": json.dumps({"name": name, "state": made.state()})
            for name, made in states.items()
        }
        self.good["vocabulary.tiktoken"] = RANKS

    def copy(self, case: Path) -> None:
        for name, content in self.good.items():
            (case / name).parent.mkdir(parents=True, exist_ok=True)
            (case / name).write_text(content)

    def change(self, rng: Random, case: Path) -> None:
        self.copy(case)
        path = case / rng.choice(sorted(self.good))
        content = path.read_bytes()
        if path.suffix == ".json":
            change = changed_json if rng.random() < 0.7 else changed_bytes
            path.write_bytes(change(rng, content))
        else:
            path.write_bytes(changed_lines(rng, content, _rank_line))

    def readers(self, case: Path) -> list[Callable[[], Any]]:
        return [
            lambda: use(load_tokenizer(case / "char", self.registry)[1]),
            lambda: use(load_tokenizer(case / "tiktoken", self.registry)[1]),
            lambda: use(TiktokenTokenizer(path=case / "vocabulary.tiktoken", pattern="gpt2")),
        ]

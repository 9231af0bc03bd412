"""Training a byte-level BPE tokenizer with the Hugging Face tokenizers library."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from tisslm.errors import ConfigError, NoTextError
from tisslm.tokenizers.checks import utf8_bytes

__all__ = ["train"]

BLOCK = 2**16  # characters handed to the trainer together: bounds its memory for long texts
N_BYTES = 256


def check_options(vocab_size: int, min_frequency: int, special_tokens: Sequence[str]) -> None:
    """Raise an error for options on which the library would crash, or which it would misread."""
    names = [] if isinstance(special_tokens, str) else list(special_tokens)
    if isinstance(special_tokens, str) or not all(isinstance(n, str) and n for n in names):
        raise ConfigError(
            f"bpe tokenizer: expected special_tokens as a list of texts, got {special_tokens!r}; "
            "write them as ['<|endoftext|>']"
        )
    least = N_BYTES + len(set(names))
    if not isinstance(vocab_size, int) or vocab_size < least:
        raise ConfigError(
            f"bpe tokenizer: expected vocab_size as an integer of at least {least} (the bytes and "
            f"the special tokens), got {vocab_size!r}; raise it"
        )
    if not isinstance(min_frequency, int) or min_frequency < 1:
        raise ConfigError(
            f"bpe tokenizer: expected min_frequency as an integer >= 1, got {min_frequency!r}; "
            "2 leaves out pairs that occur once"
        )


def train(
    texts: Iterable[str], vocab_size: int, min_frequency: int, special_tokens: Sequence[str]
) -> str:
    """Train a byte-level tokenizer and return the content of its tokenizer.json."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    check_options(vocab_size, min_frequency, special_tokens)
    blocks = text_blocks(texts)
    first = next(blocks, None)
    if first is None:
        raise NoTextError(
            "bpe tokenizer: expected a training text, got an empty one; "
            "give a text with at least one character"
        )
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(special_tokens),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(itertools.chain((first,), blocks), trainer)
    content: str = inner.to_str()
    return content


def text_blocks(texts: Iterable[str]) -> Iterator[str]:
    """Yield the texts in blocks of the size that the trainer is given at a time."""
    for text in texts:
        utf8_bytes(text, "bpe tokenizer")
        for start in range(0, len(text), BLOCK):
            yield text[start : start + BLOCK]

"""Training a byte-pair tokenizer on files of any size.

The trainer of the tokenizers library keeps one count for each distinct word; it gets the text in
pieces that are cut where it would split words anyway. The tokenizer itself is in
``tisslm.tokenizers``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from tisslm.datasets.sources import ReadOptions
from tisslm.tokenizers.bpe import BpeTokenizer
from tisslm.tokenizers.cuts import AFTER_ANY, first_match
from tisslm.workflows.tokenize.ahead import ahead
from tisslm.workflows.tokenize.parts import cut_parts, read_parts

__all__ = ["text_pieces", "train_bpe"]

#: Largest number of pieces that wait for the trainer.
DEPTH = 256


def train_bpe(
    paths: Sequence[Path],
    vocab_size: int,
    options: ReadOptions,
    *,
    min_frequency: int = 2,
    special_tokens: Sequence[str] = ("<|endoftext|>",),
    progress: Callable[[str], None] = lambda _: None,
) -> BpeTokenizer:
    """Train a byte-level tokenizer on the text of files and folders, in bounded memory.

    Parameters
    ----------
    paths : sequence of Path
    vocab_size : int
        Number of ids wanted, including the 256 bytes and the special tokens.
    options : ReadOptions
    min_frequency : int
        Pairs that occur less often are not merged.
    special_tokens : sequence of str
        Tokens that get the first ids. The first among them with a usual name ends documents.
    progress : callable
        Called with each piece of text that the trainer takes.

    Raises
    ------
    ConfigError
        If an option is out of bounds.
    DataError
        If a source cannot be read, or there is no text.
    """
    with closing(ahead(text_pieces(paths, options), DEPTH)) as pieces:

        def watched() -> Iterator[str]:
            for piece in pieces:
                progress(piece)
                yield piece

        found = BpeTokenizer.from_texts(
            watched(),
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            special_tokens=special_tokens,
        )
    options.bad.report(", ".join(str(path) for path in paths))
    return found


def text_pieces(paths: Iterable[Path], options: ReadOptions) -> Iterator[str]:
    """Yield all text in pieces, cut only where GPT-2's pre-tokenization splits it."""
    find_cut = partial(first_match, AFTER_ANY)
    for part in cut_parts(read_parts(paths, options), find_cut):
        yield part.text

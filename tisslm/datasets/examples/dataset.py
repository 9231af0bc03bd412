"""The dataset ``examples``: anchors with positives and hard negatives, or pairs with a score."""

from __future__ import annotations

import copy
import hashlib
import itertools
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import IGNORE_INDEX, Rows, Tokenizer
from tisslm.contracts.options import count, number, word
from tisslm.datasets.encoding import GrowingArray
from tisslm.datasets.examples.held_out import Records, RecordSource
from tisslm.datasets.examples.reading import read_examples
from tisslm.datasets.examples.records import Example
from tisslm.datasets.examples.texts import FlatTexts, TextIds
from tisslm.datasets.rows import RowDataset
from tisslm.datasets.sources.options import BadRecords, Format, ReadOptions
from tisslm.errors import ConfigError, DataError

__all__ = ["ExampleDataset", "example_source"]

#: Examples that are tokenized together: enough for all cores.
BATCH = 1024


class ExampleDataset(RowDataset):
    """Each row is an example: the ids of its K texts one after another, then padding.

    ``x`` has the ids and 0 behind them; ``y`` is 0 at the last token of each text and -100
    elsewhere, so that a row has K targets. ``others`` have ``lengths`` (K,), the tokens of each
    text, and ``score`` (), in [-1, 1], if there are scores.

    Files are read in their order and tokenized as they are read. What stays in memory are 4 bytes a
    token, 8 bytes a text and 4 bytes a score.

    Parameters
    ----------
    path : str, path-like, or sequence of mappings
        A file of JSON lines, a folder of WordNet's database, a file of a plugin's format (such as
        parquet), or the records themselves. A record has ``anchor`` and ``positive``, and may have
        ``negative`` (a text or a list of them) or ``negative_1``, ``negative_2``, ...; or it has
        ``sentence1``, ``sentence2`` and ``score``. All have as many texts as the first one.
    tokenizer : Tokenizer
        Its beginning and its end of text, where it has them, are put around each text.
    seq_len : int
        T of the model: no text is longer.
    format : str
        The name of a format, or "auto".
    query_prompt, document_prompt : str
        What is written before the first text of an example, and before each of the others.
    max_text_tokens : int, optional
        Longer texts are cut at their end, with a warning; by default ``seq_len``.
    score_range : sequence of two numbers
        The least and the largest score; scores are divided by the largest.
    bad_records : {"error", "skip"}
        What happens to records that cannot be used; skipped ones are counted.
    valid_fraction, valid_examples
        What is held out (``tisslm.datasets.examples.RecordSource``); counts if ``held_out`` is
        True or False.
    held_out : bool, optional
        True reads the examples that are held out, False the others, None all.
    formats : tuple of Format
        Formats of plugins.
    batch_size, seed : int, optional
        What iteration over the dataset uses; the Trainer fills them in when left out.

    Attributes
    ----------
    n_texts : int
        K.
    has_scores : bool
    source : RecordSource
    texts : FlatTexts
        The ids of all texts: those of example i are ``i * K`` to ``i * K + K - 1``.
    scores : float32 ndarray of shape (N,) or None

    Raises
    ------
    ConfigError
        If an option is out of bounds.
    DataError
        If a file cannot be read, a record is bad and bad records are errors, or there is none.
    """

    def __init__(
        self,
        path: Records,
        tokenizer: Tokenizer,
        seq_len: int,
        *,
        format: str = "auto",  # noqa: A002
        query_prompt: str = "",
        document_prompt: str = "",
        max_text_tokens: int | None = None,
        score_range: Sequence[float] = (0.0, 1.0),
        bad_records: Literal["error", "skip"] = "error",
        valid_fraction: float = 0.0,
        valid_examples: int = 0,
        held_out: bool | None = None,
        formats: tuple[Format, ...] = (),
        batch_size: int | None = None,
        seed: int | None = None,
    ) -> None:
        source = example_source(
            path,
            format=format,
            score_range=score_range,
            bad_records=bad_records,
            valid_fraction=valid_fraction,
            valid_examples=valid_examples,
            held_out=held_out,
            formats=formats,
        )
        self.prompts = _prompt("query", query_prompt), _prompt("document", document_prompt)
        self.tokenizer = self._tokenizer = tokenizer
        self.vocab_size = tokenizer.vocab_size
        self.batch_size, self.seed = batch_size, seed
        self._most = _most_tokens(max_text_tokens, seq_len), seq_len
        self._read(source)

    def validation(self) -> ExampleDataset:
        """Return the examples that are held out, where this dataset has the others."""
        found = copy.copy(self)
        found._read(self.source.part(held_out=True))
        return found

    def _read(self, source: RecordSource[Example]) -> None:
        """Read the examples of a source in place of others."""
        most, seq_len = self._most
        ids = TextIds(self._tokenizer, most)
        self.source = source
        self.texts, self.scores, self.n_texts = self._encoded(source.examples(), ids)
        self.has_scores = self.scores is not None
        self.seq_len = int(np.diff(self.texts.offsets[:: self.n_texts]).max())
        if ids.cut:
            key = "data.max_text_tokens" if most < seq_len else "model.seq_len"
            warnings.warn(f"{source.name}: {ids.cut}; raise {key} to read more", stacklevel=3)

    def _encoded(
        self, examples: Iterator[Example], encoder: TextIds
    ) -> tuple[FlatTexts, NDArray[Any] | None, int]:
        """Return the ids of all texts, the scores, and K."""
        tokens, offsets = GrowingArray(np.dtype(np.int32)), GrowingArray(np.dtype(np.int64))
        scores = GrowingArray(np.dtype(np.float32))
        offsets.extend([0])
        n_texts = 0
        while batch := list(itertools.islice(examples, BATCH)):
            n_texts = len(batch[0].texts)
            scores.extend(np.array([e.score for e in batch if e.score is not None], np.float32))
            found = [self._encode(batch, k, encoder) for k in range(n_texts)]
            lengths = np.stack([texts.lengths for texts in found], axis=1).ravel()
            start = tokens.size
            groups = zip(*found, strict=True)
            tokens.extend(np.concatenate([ids for group in groups for ids in group]))
            offsets.extend(start + np.cumsum(lengths))
        flat = FlatTexts(tokens.taken(), offsets.taken())
        return flat, scores.taken() if scores.size else None, n_texts

    def _encode(self, batch: Sequence[Example], k: int, encoder: TextIds) -> FlatTexts:
        """Return the ids of the k-th texts of some examples."""
        texts, prompt = [example.texts[k] for example in batch], self.prompts[k > 0]
        try:
            found = encoder.encode(texts, prompt)
        except DataError:
            for example, text in zip(batch, texts, strict=True):
                encoder.check_one(text, prompt, example.where)
            raise
        if not found.lengths.all():
            where = batch[int(np.argmin(found.lengths))].where
            raise DataError(
                f"{where}: expected a text of at least one token, got one of none; remove the "
                "record, or take another tokenizer"
            )
        return found

    # ------------------------------------------------------------------ rows

    def __len__(self) -> int:
        return len(self.texts) // self.n_texts

    @property
    def nbytes(self) -> int:
        """The bytes of ids, offsets and scores."""
        scores = 0 if self.scores is None else self.scores.nbytes
        return self.texts.ids.nbytes + self.texts.offsets.nbytes + scores

    def fingerprint(self) -> str:
        """Return a checksum of all ids and scores."""
        digest = hashlib.sha256(f"{self.n_texts} {self.vocab_size}".encode())
        arrays = (self.texts.ids, "<i4"), (self.texts.offsets, "<i8"), (self.scores, "<f4")
        for array, kind in arrays:
            if array is not None:
                digest.update(np.ascontiguousarray(array, dtype=kind).data)
        return digest.hexdigest()[:16]

    def fill(self, i: int, rows: Rows, place: int, scratch: Any) -> None:
        """Write the texts of example ``i``, and its score if there are any."""
        offsets_K1 = self.texts.offsets[i * self.n_texts : (i + 1) * self.n_texts + 1]
        begin, end = int(offsets_K1[0]), int(offsets_K1[-1])
        rows.x[place, : end - begin] = self.texts.ids[begin:end]
        rows.x[place, end - begin :] = 0
        rows.y[place] = IGNORE_INDEX
        rows.y[place, offsets_K1[1:] - begin - 1] = 0
        rows.others["lengths"][place] = np.diff(offsets_K1)
        if self.scores is not None:
            rows.others["score"][place] = self.scores[i]

    def stream_bytes(self, batch_size: int) -> int:
        """Return the bytes of the arrays that a ``stream`` holds."""
        numbers = self.n_texts + self.has_scores
        return super().stream_bytes(batch_size) + 2 * 4 * min(batch_size, len(self)) * numbers

    def _empty(self, n_rows: int) -> Rows:
        rows = super()._empty(n_rows)
        others: dict[str, NDArray[Any]] = {
            "lengths": np.empty((n_rows, self.n_texts), dtype=np.int32)
        }
        if self.has_scores:
            others["score"] = np.empty(n_rows, dtype=np.float32)
        return Rows(rows.x, rows.y, None, others)

    @staticmethod
    def test_options(folder: Path) -> Iterable[Mapping[str, Any]]:
        """Write a small file for ``tisslm.testing``, and return options that read examples."""
        path = folder / "pairs.jsonl"
        lines = [f'{{"anchor": "a {i}", "positive": "{"b" * (i % 4 + 1)}"}}\n' for i in range(13)]
        path.write_text("".join(lines), encoding="utf-8")
        scored = [{"sentence1": f"{i}", "sentence2": "b", "score": i / 8} for i in range(7)]
        part: dict[str, Any] = {"held_out": False, "valid_fraction": 0.2, "query_prompt": "q: "}
        chosen: tuple[dict[str, Any], ...] = {"path": path}, {"path": path} | part, {"path": scored}
        return [{"seq_len": 16} | options for options in chosen]


def example_source(
    path: Records,
    *,
    format: str = "auto",  # noqa: A002
    score_range: Sequence[float] = (0.0, 1.0),
    bad_records: str = "error",
    valid_fraction: float = 0.0,
    valid_examples: int = 0,
    held_out: bool | None = None,
    formats: tuple[Format, ...] = (),
    quiet: bool = False,
) -> RecordSource[Example]:
    """Return where examples come from; the arguments are those of ``ExampleDataset``.

    Raises
    ------
    ConfigError
        If one is out of bounds.
    """
    policy: Any = word("data.bad_records", bad_records, ("error", "skip"))
    format = word("data.format", format)  # noqa: A001
    read = partial(read_examples, path, format=format, score_range=score_range)
    return RecordSource(
        path,
        lambda options: read(options=options),
        ReadOptions(bad=BadRecords(policy, quiet=quiet), formats=formats),
        valid_fraction=number("data.valid_fraction", valid_fraction, 0.0, 1.0),
        valid_examples=count("data.valid_examples", valid_examples),
        held_out=held_out,
    )


def _most_tokens(max_text_tokens: object, seq_len: int) -> int:
    """Return the most tokens of a text: no more than the model takes."""
    if max_text_tokens is None:
        return seq_len
    most = count("data.max_text_tokens", max_text_tokens, 1)
    if most > seq_len:
        raise ConfigError(
            f"data.max_text_tokens: expected at most the model's seq_len, {seq_len}, got {most}; "
            "lower it, or raise model.seq_len"
        )
    return most


def _prompt(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"data.{what}_prompt: expected a text, got {value!r:.200}")
    return value

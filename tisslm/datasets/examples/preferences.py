"""The dataset ``preferences``: prompts with two answers, of which one is preferred, as pairs."""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import IGNORE_INDEX, Rows, Tokenizer
from tisslm.contracts.options import count, number, word
from tisslm.contracts.preference import PAIR, REFERENCE
from tisslm.datasets.documents import Document
from tisslm.datasets.encoding import GrowingArray, encode_chat, encode_document
from tisslm.datasets.examples.held_out import Records, RecordSource
from tisslm.datasets.examples.preference_records import Preference, read_preferences
from tisslm.datasets.rows import RowDataset
from tisslm.datasets.sources.options import BadRecords, Format, ReadOptions
from tisslm.errors import DataError

__all__ = ["PreferenceDataset", "preference_source"]

Array = NDArray[Any]


@final
class PreferenceDataset(RowDataset):
    """Each row is a pair: prompt and chosen answer, then prompt and rejected answer, then padding.

    ``x`` has the ids that are read of both texts, ``y`` what follows each, -100 unless that is a
    token of the answer. ``others`` have ``pair`` (2,), the ids that are read of each text, and
    ``reference`` (2,), the log-probabilities of the answers, once ``reference`` is set.

    Files are read in their order and tokenized as they are read. What stays in memory are 5 bytes a
    token, 16 bytes a pair for their places and 16 for the reference.

    Parameters
    ----------
    path : str, path-like, or sequence of mappings
        A file of JSON lines or of a plugin's format (such as parquet), or the records themselves:
        ``prompt``, ``chosen`` and ``rejected``, texts or lists of messages.
    tokenizer : Tokenizer
        Messages are written by its chat template.
    seq_len : int
        T of the model: no prompt with its answer is longer. Longer answers are cut at their end,
        with a warning.
    format : str
        The name of a format, or "auto".
    chat : {"template", "plain"}
        Whether messages are written by the template, or as role, content and a blank line.
    bad_records : {"error", "skip"}
        What happens to records that cannot be used; skipped ones are counted.
    valid_fraction, valid_examples
        What is held out (``RecordSource``); counts if ``held_out`` is True or False.
    held_out : bool, optional
        True reads the pairs that are held out, False the others, None all. Pairs of one prompt are
        on one side.
    formats : tuple of Format
        Formats of plugins.
    batch_size, seed : int, optional
        What iteration over the dataset uses; the Trainer fills them in when left out.

    Attributes
    ----------
    reference : ndarray of shape (N, 2) or None
        What a reference says of the answers: ``tisslm.contracts.preference.Referring``.
    source : RecordSource

    Raises
    ------
    ConfigError
        If an option is out of bounds, or messages meet a tokenizer without a template.
    DataError
        If a file cannot be read, a record is bad and bad records are errors, or there is none.
    """

    reference: Array | None = None

    def __init__(
        self,
        path: Records,
        tokenizer: Tokenizer,
        seq_len: int,
        *,
        format: str = "auto",  # noqa: A002
        chat: Literal["template", "plain"] = "template",
        bad_records: Literal["error", "skip"] = "error",
        valid_fraction: float = 0.0,
        valid_examples: int = 0,
        held_out: bool | None = None,
        formats: tuple[Format, ...] = (),
        batch_size: int | None = None,
        seed: int | None = None,
    ) -> None:
        source = preference_source(
            path,
            format=format,
            chat=chat,
            bad_records=bad_records,
            valid_fraction=valid_fraction,
            valid_examples=valid_examples,
            held_out=held_out,
            formats=formats,
        )
        self.tokenizer = self._tokenizer = tokenizer
        self.vocab_size = tokenizer.vocab_size
        self.batch_size, self.seed = batch_size, seed
        self._most = seq_len
        self._read(source)

    def validation(self) -> PreferenceDataset:
        """Return the pairs that are held out, where this dataset has the others."""
        found = copy.copy(self)
        found._read(self.source.part(held_out=True))
        return found

    def _read(self, source: RecordSource[Preference]) -> None:
        """Read the pairs of a source in place of others."""
        texts, cut = _Texts(self._tokenizer, self._most), 0
        ids, learn = GrowingArray(np.dtype(np.int32)), GrowingArray(np.dtype(bool))
        offsets = GrowingArray(np.dtype(np.int64))
        offsets.extend([0])
        for preference in source.examples():
            try:
                pair = texts.pair(preference)
            except DataError as error:
                source.options.bad.refuse(str(error))
                continue
            for its_ids, its_learn, is_cut in pair:
                ids.extend(its_ids)
                learn.extend(its_learn)
                offsets.extend([ids.size])
                cut += is_cut
        if offsets.size == 1:
            first = source.options.bad.first
            raise DataError(f"{source.name}: expected a pair, got none; {first or 'add some'}")
        self.source, self.reference = source, None
        self._ids, self._learn, self._offsets = ids.taken(), learn.taken(), offsets.taken()
        self.seq_len = int((np.diff(self._offsets) - 1).reshape(-1, 2).sum(axis=1).max())
        if cut:
            warnings.warn(
                f"{source.name}: {cut} of {2 * len(self)} answers have no room in {self._most} "
                "tokens beside the prompt, and the last are cut off; raise model.seq_len to read "
                "more",
                stacklevel=3,
            )

    # ------------------------------------------------------------------ rows

    def __len__(self) -> int:
        return (len(self._offsets) - 1) // 2

    @property
    def nbytes(self) -> int:
        """The bytes of ids, of what is learned, of offsets, and of the reference."""
        arrays = (self._ids, self._learn, self._offsets)
        return sum(array.nbytes for array in arrays) + 2 * 8 * len(self)

    def fingerprint(self) -> str:
        """Return a checksum of all ids, and of which are learned."""
        digest = hashlib.sha256(f"{self.vocab_size}".encode())
        arrays = (self._ids, "<i4"), (self._learn, "?"), (self._offsets, "<i8")
        for array, kind in arrays:
            digest.update(np.ascontiguousarray(array, dtype=kind).data)
        return digest.hexdigest()[:16]

    def fill(self, i: int, rows: Rows, place: int, scratch: Any) -> None:
        """Write the two texts of pair ``i``, and what the reference says if that is known."""
        begin = 0
        for k, text in enumerate((2 * i, 2 * i + 1)):
            first, stop = int(self._offsets[text]), int(self._offsets[text + 1])
            end = begin + stop - first - 1
            rows.x[place, begin:end] = self._ids[first : stop - 1]
            rows.y[place, begin:end] = self._ids[first + 1 : stop]
            rows.y[place, begin:end][~self._learn[first + 1 : stop]] = IGNORE_INDEX
            rows.others[PAIR][place, k] = end - begin
            begin = end
        rows.x[place, begin:] = 0
        rows.y[place, begin:] = IGNORE_INDEX
        if self.reference is not None:
            rows.others[REFERENCE][place] = self.reference[i]

    def stream_bytes(self, batch_size: int) -> int:
        """Return the bytes of the arrays that a ``stream`` holds."""
        return super().stream_bytes(batch_size) + 2 * (8 + 16) * min(batch_size, len(self))

    def _empty(self, n_rows: int) -> Rows:
        rows = super()._empty(n_rows)
        others: dict[str, Array] = {PAIR: np.empty((n_rows, 2), dtype=np.int32)}
        if self.reference is not None:
            others[REFERENCE] = np.empty((n_rows, 2), dtype=np.float64)
        return Rows(rows.x, rows.y, None, others)

    @staticmethod
    def test_options(folder: Path) -> Iterable[Mapping[str, Any]]:
        """Write a small file for ``tisslm.testing``, and return options that read pairs."""
        path = folder / "pairs.jsonl"
        lines = [f'{{"prompt": "p{i}", "chosen": "c{i}", "rejected": "{"r" * (i % 4 + 1)}"}}\n'
                 for i in range(13)]  # fmt: skip
        path.write_text("".join(lines), encoding="utf-8")
        said = [
            [{"role": role, "content": text}] for role, text in (("user", "a"), ("assistant", "b"))
        ]
        chats = [
            {"prompt": said[0], "chosen": said[1], "rejected": [{**said[1][0], "content": f"{i}"}]}
            for i in range(7)
        ]
        part: dict[str, Any] = {"held_out": False, "valid_fraction": 0.2}
        chosen: tuple[dict[str, Any], ...] = (
            {"path": path},
            {"path": path} | part,
            {"path": chats, "chat": "plain", "seq_len": 64},
        )
        return [{"seq_len": 16} | options for options in chosen]


def preference_source(
    path: Records,
    *,
    format: str = "auto",  # noqa: A002
    chat: str = "template",
    bad_records: str = "error",
    valid_fraction: float = 0.0,
    valid_examples: int = 0,
    held_out: bool | None = None,
    formats: tuple[Format, ...] = (),
    quiet: bool = False,
) -> RecordSource[Preference]:
    """Return where pairs come from; the arguments are those of ``PreferenceDataset``.

    Raises
    ------
    ConfigError
        If one is out of bounds.
    """
    policy: Any = word("data.bad_records", bad_records, ("error", "skip"))
    written: Any = word("data.chat", chat, ("template", "plain"))
    read = partial(read_preferences, path, format=word("data.format", format))
    return RecordSource(
        path,
        lambda options: read(options=options),
        ReadOptions(bad=BadRecords(policy, quiet=quiet), formats=formats, chat=written),
        what=("a pair", "prompt"),
        valid_fraction=number("data.valid_fraction", valid_fraction, 0.0, 1.0),
        valid_examples=count("data.valid_examples", valid_examples),
        held_out=held_out,
    )


class _Texts:
    """What makes ids of pairs.

    Parameters
    ----------
    tokenizer : Tokenizer
    seq_len : int
        The most tokens that are read of a prompt with its answer.
    """

    def __init__(self, tokenizer: Tokenizer, seq_len: int) -> None:
        self._tokenizer, self._most = tokenizer, seq_len

    def pair(self, preference: Preference) -> list[tuple[Array, Array, bool]]:
        """Return the ids of both texts, which of them are learned, and whether some are cut off.

        Raises
        ------
        DataError
            If the tokenizer refuses a text, the prompt leaves no room for an answer, or what is
            left of the answers is the same.
        """
        asked = self._asked(preference.prompt)
        found = [self._text(answer, asked) for answer in preference.answers]
        (chosen, rejected) = (ids for ids, _, _ in found)
        if np.array_equal(chosen, rejected):
            raise DataError(
                f"{preference.where}: expected two answers that differ, got two of the same "
                f"{self._most} tokens; raise model.seq_len, or remove the record"
            )
        return found

    def _asked(self, prompt: Document) -> int:
        """Count the tokens of the assistant within the prompt, which are not learned."""
        messages = prompt.messages
        if messages is None or not any(each["role"] == "assistant" for each in messages):
            return 0
        return int(encode_chat(messages, prompt.where, self._tokenizer)[1].sum())

    def _text(self, answer: Document, asked: int) -> tuple[Array, Array, bool]:
        ids, learn = encode_document(answer, self._tokenizer)
        learn = learn.copy()
        learn[np.flatnonzero(learn)[:asked]] = False
        learn[:1] = False  # nothing is before it that it could be predicted from
        kept = learn[: self._most + 1]
        if not kept.any():
            before = int(np.argmax(learn)) if learn.any() else len(ids)
            raise DataError(
                f"{answer.where}: expected a prompt that leaves room for an answer in the model's "
                f"{self._most} tokens, got one of {before}; raise model.seq_len, or shorten or "
                "remove the record"
            )
        return ids[: self._most + 1].astype(np.int32), kept, len(ids) > self._most + 1

"""The check of tokenizers: a right one passes, and each wrong one fails by its own property."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm.contracts import Tokenizer
from tisslm.errors import DataError
from tisslm.testing import check_tokenizer
from tisslm.tokenizers import ByteTokenizer, CharTokenizer


class Dna(Tokenizer):
    """The four bases, which are all that it gives back."""

    vocab_size = 4
    test_text = "ACGTTGCAACGT"

    def encode(self, text):
        return ["ACGT".index(letter) for letter in text]

    def decode(self, ids):
        return "".join("ACGT"[i] for i in ids)

    def state(self):
        return {}

    @classmethod
    def from_state(cls, state):
        return cls()


class LosesCharacters(ByteTokenizer):
    def encode(self, text):
        return super().encode(text.replace("\r", ""))

    def encode_array(self, text):
        return super().encode_array(text.replace("\r", ""))


class FoldsCase(ByteTokenizer):
    def decode(self, ids):
        return super().decode(ids).lower()


class BeyondTheVocabulary(ByteTokenizer):
    vocab_size = 255

    def encode(self, text):
        return [255, *super().encode(text)]

    def decode(self, ids):
        return super().decode(ids[1:])


class AddsAStart(ByteTokenizer):
    def encode(self, text):
        return [0, *super().encode(text)]

    def decode(self, ids):
        return super().decode(ids[1:])


class AnotherArray(ByteTokenizer):
    def encode_array(self, text):
        return super().encode_array(text)[::-1]


class FloatArray(ByteTokenizer):
    def encode_array(self, text):
        return super().encode_array(text).astype(np.float32)


class CountsCharacters(ByteTokenizer):
    def count_bytes(self, ids):
        return len(self.decode(ids))


class RefusesRareIds(ByteTokenizer):
    def decode(self, ids):
        if 255 in ids:
            raise DataError("no such byte in UTF-8")
        return super().decode(ids)


class SavesASet(CharTokenizer):
    def state(self):
        return {"characters": set(self.characters)}


class RestoresOthers(CharTokenizer):
    @classmethod
    def from_state(cls, state):
        return cls(characters=state["characters"] + "\0")


class Draws(ByteTokenizer):
    shift = 0

    def __init__(self):
        Draws.shift = (Draws.shift + 1) % 256
        self.mine = Draws.shift

    def encode(self, text):
        return [(i + self.mine) % 256 for i in super().encode(text)]

    def decode(self, ids):
        return super().decode([(i - self.mine) % 256 for i in ids])


class EndsBeyond(ByteTokenizer):
    end_of_text = 256


class EndsByName(ByteTokenizer):
    end_of_text = "<|endoftext|>"


class ForgetsItsEnd(ByteTokenizer):
    end_of_text = 0

    @classmethod
    def from_state(cls, state):
        return ByteTokenizer()


class ForgetsItsBeginning(Dna):
    begin = (0,)

    def count_bytes(self, ids):
        return int((ids != 0).sum())

    @classmethod
    def from_state(cls, state):
        return Dna()


class StopsBeyond(ByteTokenizer):
    ends = (256,)


class PublishesAnother(ByteTokenizer):
    def published(self):
        return {"vocab.json": {}}


class OfTheFirstLine(CharTokenizer):
    @classmethod
    def from_text(cls, text, *, characters=""):
        return cls(characters=text + characters)

    @classmethod
    def from_texts(cls, texts, **options):
        return cls(characters=next(iter(texts)).partition("\n")[0], **options)


WRONG = [
    (LosesCharacters, "what is encoded decodes to itself"),
    (FoldsCase, "what is encoded decodes to itself"),
    (BeyondTheVocabulary, "what is encoded decodes to itself"),
    (AddsAStart, "what is encoded decodes to itself"),
    (AnotherArray, "an array has the same ids"),
    (FloatArray, "an array has the same ids"),
    (CountsCharacters, "bytes are those of the text"),
    (RefusesRareIds, "every id decodes"),
    (SavesASet, "the state goes through json"),
    (RestoresOthers, "the state goes through json"),
    (EndsBeyond, "end of text is an id or none"),
    (EndsByName, "end of text is an id or none"),
    (ForgetsItsEnd, "end of text is an id or none"),
    (ForgetsItsBeginning, "ids around a text are in the vocabulary"),
    (StopsBeyond, "ids around a text are in the vocabulary"),
    (PublishesAnother, "published files are json"),
    (OfTheFirstLine, "texts build what a text builds"),
    (Draws, "ids are in the vocabulary"),
]


def test_a_tokenizer_says_what_text_it_gives_back():
    assert check_tokenizer(Dna).n_assertions > 40


@pytest.mark.parametrize(("wrong", "prop"), WRONG, ids=[w.__name__ for w, _ in WRONG])
def test_a_wrong_tokenizer_fails_by_its_property(refuses, wrong, prop):
    refuses(check_tokenizer, wrong, prop)


def test_the_text_may_be_given(refuses):
    refuses(check_tokenizer, Dna, "what is encoded decodes to itself", text="ACGTN")

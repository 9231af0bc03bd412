"""From new token ids to text, in pieces that are certain, up to a stop string."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import final

from tisslm.contracts import Decoder, Model, Tokenizer
from tisslm.errors import ConfigError, DataError
from tisslm.models.generation.running import Generation
from tisslm.models.generation.sampling import Sampling

__all__ = ["Pieces", "Stops", "beginning", "opening", "pieces", "sample", "samples"]

#: The character that a decoder writes for invalid or incomplete UTF-8.
INCOMPLETE = "\ufffd"


def opening(tokenizer: Tokenizer) -> list[int]:
    """Return the ids to begin with if there is no prompt.

    They are what the tokenizer puts before a text, or else the end of text, after which a new text
    begins; if the tokenizer has no such token, a line feed, or else the first id.
    """
    if tokenizer.begin:
        return list(tokenizer.begin)
    end = tokenizer.end_of_text
    if end is not None:
        return [end]
    try:
        return tokenizer.encode("\n") or [0]
    except DataError:
        return [0]


def beginning(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """Return the ids of a prompt, or those to begin with if it is empty."""
    ids = tokenizer.encode(prompt) if prompt else []
    return [*tokenizer.begin, *ids] if ids else opening(tokenizer)


@final
class Pieces:
    """The text of new ids as soon as it is certain; joined, the pieces are the whole text.

    Each piece is the text that an id adds to that of the ids just before it, because some
    tokenizers decode an id differently at the start of a text. A character of several tokens comes
    after the last one.

    Parameters
    ----------
    tokenizer : Tokenizer
    prompt : sequence of int
        The ids before the new ones.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._ids = list(prompt)
        self._start, self._done = 0, len(self._ids)
        self._known = self._text = tokenizer.decode(self._ids)

    def add(self, token: int) -> str:
        """Return what is certain with one more id; perhaps nothing."""
        self._ids.append(token)
        self._text = self._tokenizer.decode(self._ids[self._start :])
        if len(self._text) <= len(self._known) or self._text.endswith(INCOMPLETE):
            return ""
        piece = self._text[len(self._known) :]
        self._start, self._done = self._done, len(self._ids)
        self._text = self._known = self._tokenizer.decode(self._ids[self._start :])
        return piece

    def rest(self) -> str:
        """Return what is left when no more ids come."""
        return self._text[len(self._known) :]


@final
class Stops:
    """A text up to the first of some strings, which is no part of it.

    What may yet become the beginning of one is held back.

    Parameters
    ----------
    strings : sequence of str
        None of them empty.

    Attributes
    ----------
    found : bool
        Whether one has come; nothing is said after that.

    Raises
    ------
    ConfigError
        If one is empty, or they are one string, each character of which would be a stop.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        if isinstance(strings, str):
            raise ConfigError(
                f"stop: expected a sequence of strings, got the string {strings!r}; put it into a "
                "list"
            )
        if not all(strings):
            raise ConfigError("stop: expected strings of at least one character, got an empty one")
        self._strings = tuple(strings)
        self._held = ""
        self.found = False

    def add(self, piece: str) -> str:
        """Return what is certain with one more piece; perhaps nothing."""
        if self.found:
            return ""
        text = self._held + piece
        places = [place for s in self._strings if (place := text.find(s)) >= 0]
        if places:
            self.found, self._held = True, ""
            return text[: min(places)]
        keep = max((_overlap(text, s) for s in self._strings), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """Return what was held back, when no more pieces come."""
        held, self._held = self._held, ""
        return held

    def cut(self, pieces: Iterable[str]) -> Iterator[str]:
        """Yield the text of all pieces, up to a string."""
        for piece in pieces:
            if certain := self.add(piece):
                yield certain
            if self.found:
                return
        if held := self.rest():
            yield held


def _overlap(text: str, string: str) -> int:
    """Return how many characters at the end of a text are the beginning of a longer string."""
    longest = min(len(text), len(string) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(string[:n])), 0)


def pieces(tokenizer: Tokenizer, prompt: Sequence[int], new: Iterable[int]) -> Iterator[str]:
    """Yield the text of new ids as soon as it is certain, as ``Pieces`` says.

    Parameters
    ----------
    tokenizer : Tokenizer
    prompt : sequence of int
        The ids before the new ones.
    new : iterable of int
    """
    found = Pieces(tokenizer, prompt)
    for token in new:
        if piece := found.add(token):
            yield piece
    if piece := found.rest():
        yield piece


def samples(
    running: Generation,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    stop: Sequence[str] = (),
) -> Iterator[tuple[int, str]]:
    """Yield the text of several prompts as it comes: (number of the prompt, piece).

    Parameters
    ----------
    running : Generation
        Of these prompts.
    tokenizer : Tokenizer
    prompts : sequence of sequences of int
        Their ids.
    stop : sequence of str
        Strings that end a text, and are no part of it.
    """
    texts = [(Pieces(tokenizer, prompt), Stops(stop)) for prompt in prompts]
    for row, token in running:
        found, stops = texts[row]
        if piece := stops.add(found.add(token)):
            yield row, piece
        if stops.found:
            running.end(row)
    for row, (found, stops) in enumerate(texts):
        if piece := stops.add(found.rest()) + stops.rest():
            yield row, piece


def sample(
    model: Model,
    tokenizer: Tokenizer,
    prompt: str,
    max_new_tokens: int,
    sampling: Sampling,
    *,
    stop: Sequence[str] = (),
    decoder: Decoder | None = None,
) -> Iterator[str]:
    """Yield the text that a model generates after a prompt, in pieces, without the prompt.

    It ends where the tokenizer says that a text ends, at a stop string, or after as many tokens.
    """
    ids = beginning(tokenizer, prompt)
    running = Generation(
        model,
        [ids],
        max_new_tokens,
        [sampling],
        n_ids=tokenizer.vocab_size,
        ends=tokenizer.ends,
        decoder=decoder,
    )
    for _, piece in samples(running, tokenizer, [ids], stop):
        yield piece

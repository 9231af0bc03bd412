"""A conversation with a model that was made for it, by its chat template.

Tokens are sampled in ``tisslm.models.generation``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile

from tisslm.contracts import Model, Tokenizer
from tisslm.errors import ConfigError, DataError
from tisslm.models.generation import Sampling, Stops, pieces, stream

__all__ = ["Conversation"]


class Conversation:
    """Turns of a user and a model, as many as the context of the model holds.

    Parameters
    ----------
    model : Model
        One that ``writes_text``.
    tokenizer : Tokenizer
        One with a chat template.
    system : str
        What the model is told before the first turn; "" tells nothing, and the template may have
        words of its own.
    max_new_tokens : int
        The longest answer, in tokens.
    sampling : Sampling, optional
    weights : {"fp32", "bf16"}
        As for ``Model.decoder``.

    Attributes
    ----------
    messages : list of dict
        What was said, each with ``role`` and ``content``.
    forgotten : int
        How many messages were taken out of ``messages``, oldest first, to make room.

    Raises
    ------
    ConfigError
        If the tokenizer has no chat template, or a number is out of bounds.
    """

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        *,
        system: str = "",
        max_new_tokens: int = 512,
        sampling: Sampling | None = None,
        weights: str = "fp32",
    ) -> None:
        if tokenizer.chat_template is None:
            raise ConfigError(
                "a conversation needs a tokenizer with a chat template, and this model's has none; "
                "use tisslm generate, or a model that was made for conversations"
            )
        if max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens: expected an integer >= 1, got {max_new_tokens}")
        self.model, self.tokenizer = model, tokenizer
        self.max_new_tokens, self.sampling = max_new_tokens, sampling or Sampling()
        self._decoder = model.decoder(weights=weights)
        self._system = [{"role": "system", "content": system}] if system else []
        self.reset()

    def reset(self) -> None:
        """Forget all that was said."""
        self.messages: list[dict[str, str]] = []
        self.forgotten = 0

    def answer(self, text: str) -> Iterator[str]:
        """Yield the model's answer in pieces, as they come.

        An answer that is not read to its end counts as far as it was read. It ends at any special
        token, also one that the model spells in letters, or where the context is full.

        Parameters
        ----------
        text : str
            What the user says.

        Raises
        ------
        DataError
            If the template refuses the text, or it is too long for the context; it was not said
            then.
        """
        before = list(self.messages), self.forgotten
        self.messages.append({"role": "user", "content": text})
        try:
            prompt = self._prompt()
        except BaseException:  # nor is anything forgotten for a text that was not said
            self.messages, self.forgotten = before
            raise
        return self._answer(prompt)

    def _answer(self, prompt: list[int]) -> Iterator[str]:
        room = min(self.max_new_tokens, self.model.seq_len - len(prompt))
        new = stream(
            self.model,
            prompt,
            room,
            self.sampling,
            n_ids=self.tokenizer.vocab_size,
            decoder=self._decoder,
        )
        said = {"role": "assistant", "content": ""}
        self.messages.append(said)
        ends = self.tokenizer.special_ids
        until_end = takewhile(lambda token: token not in ends, new)
        # Its name in a message would forge a turn: the next prompt with it would be refused.
        stops = Stops([name for token in ends if (name := self.tokenizer.decode([token]))])
        for piece in stops.cut(pieces(self.tokenizer, prompt, until_end)):
            said["content"] += piece
            yield piece

    def _prompt(self) -> list[int]:
        """Return the ids of all that was said, without the oldest turns if these are too many."""
        while True:
            ids, _ = self.tokenizer.encode_chat([*self._system, *self.messages], reply=True)
            if len(ids) < self.model.seq_len:
                return [int(i) for i in ids]
            if len(self.messages) < 3:
                raise DataError(
                    f"expected a text for which the context of {self.model.seq_len} tokens has "
                    f"room, got one of {len(ids)} with what belongs to it; shorten it"
                )
            del self.messages[:2]
            self.forgotten += 2

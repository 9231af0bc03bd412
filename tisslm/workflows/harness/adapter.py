"""A model as lm-evaluation-harness asks it; imported only where the harness is installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from tisslm.contracts import Loss, Model, Tokenizer
from tisslm.errors import ConfigError
from tisslm.models.generation import Sampling, opening, sample
from tisslm.workflows.harness.scoring import Score, score

__all__ = ["HarnessModel"]

#: Tokens of an answer, where a task does not say.
LONGEST = 256


@final
class HarnessModel(TemplateLM):  # type: ignore[misc]
    """A model with its tokenizer, behind the harness' interface.

    Parameters
    ----------
    model : Model
    tokenizer : Tokenizer
    loss : Loss
        The cross-entropy, by which log-probabilities are computed.
    batch_size : int
        Rows of a pass.
    """

    def __init__(self, model: Model, tokenizer: Tokenizer, loss: Loss, batch_size: int) -> None:
        super().__init__()
        self._model, self._text, self._loss = model, tokenizer, loss
        self._batch_size = batch_size

    @property
    def eot_token_id(self) -> int:
        """The id after which a new text begins."""
        return opening(self._text)[0]

    @property
    def tokenizer_name(self) -> str:
        """A name for the harness' cache, which is not used."""
        return type(self._text).__name__

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **options: Any
    ) -> list[int]:
        """Return the ids of a text, begun as the tokenizer begins one unless that is not wanted."""
        begin = () if add_special_tokens is False else self._text.begin
        return [*begin, *self._text.encode(string)]

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **options: Any
    ) -> list[Score]:
        pairs = [(context, continuation) for _, context, continuation in requests]
        return score(self._model, self._loss, pairs, batch_size=self._batch_size)

    def loglikelihood_rolling(self, requests: Sequence[Any], **options: Any) -> list[float]:
        """Return ln p of whole texts, each token given as many before it as a row holds."""
        found = []
        for request in requests:
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0], add_special_tokens=False),
                prefix_token=self.prefix_token_id,
                max_seq_len=self._model.seq_len,
                context_len=1,
            )
            pairs = [make_disjoint_window(window) for window in windows]
            scores = score(self._model, self._loss, pairs, batch_size=self._batch_size)
            found.append(sum(one.log_probability for one in scores))
        return found

    def generate_until(self, requests: Sequence[Any], **options: Any) -> list[str]:
        """Return the texts that follow prompts, up to a stop string."""
        return [self._answer(*request.args) for request in requests]

    def _answer(self, prompt: str, asked: dict[str, Any]) -> str:
        if not self._model.writes_text:
            raise ConfigError(
                f"--tasks: expected a model that writes text, got {type(self._model).__name__}; "
                "choose tasks that only score answers"
            )
        until = asked.get("until") or []
        stop = [until] if isinstance(until, str) else [text for text in until if text]
        temperature = float(asked.get("temperature", 0.0)) if asked.get("do_sample") else 0.0
        sampling = Sampling(temperature=temperature, top_p=float(asked.get("top_p", 1.0)))
        longest = int(asked.get("max_gen_toks", asked.get("max_tokens", LONGEST)))
        return "".join(sample(self._model, self._text, prompt, longest, sampling, stop=stop))

"""``tisslm chat``: lines of a script, a terminal, and what ends an answer."""

from __future__ import annotations

import io
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from chat_templates import PLAIN, tokenizer_with, turns
from terminal import Session

from tisslm.models.generation import Sampling
from tisslm.workflows.conversation import Conversation
from tisslm.workflows.load_model import load_model

if TYPE_CHECKING:
    from conftest import Cli

Typed = Callable[[str | bytes], None]


@pytest.fixture
def talker(train: Cli, folder: Path) -> Path:
    """Train a model for conversations."""
    (folder / "model").mkdir()
    for name, content in tokenizer_with(PLAIN["chatml"]).published().items():
        (folder / "model" / name).write_text(json.dumps(content))
    record = json.dumps({"messages": turns("Hello", "a b c d e f g h")})
    (folder / "chat.jsonl").write_text(f"{record}\n" * 200)
    settings = ["data.path=chat.jsonl", "tokenizer.name=bpe", "tokenizer.path=model"]
    settings += ["training.output_dir=run", "model.seq_len=2048", "data.packing=stream"]
    settings += ["training.batch_size=1", "data.valid_fraction=0"]
    result = train(*settings)
    assert (result.code, result.err) == (0, "")
    return folder / "run"


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Give standard input a content."""

    def give(content: str | bytes) -> None:
        data = content.encode() if isinstance(content, str) else content
        stream: Any = io.TextIOWrapper(io.BytesIO(data))
        monkeypatch.setattr(sys, "stdin", stream)

    return give


def test_each_line_of_a_script_is_a_turn(cli: Cli, talker: Path, typed: Typed) -> None:
    typed("Hello\n\n/reset\nHello\nAnd you?\n/exit\nnever said\n")
    flags = ("--max-new-tokens", "9", "--top-k", "5", "--seed", "3", "--system", "Be short.")
    result = cli("chat", "run", *flags)
    assert (result.code, result.err) == (0, "")
    model, tokenizer = load_model(talker)
    assert tokenizer is not None
    sampling = Sampling(0.8, 5, 1.0, 3)
    talk = Conversation(model, tokenizer, system="Be short.", max_new_tokens=9, sampling=sampling)
    hello, other = ("".join(talk.answer(text)) for text in ("Hello", "And you?"))
    assert result.out == f"{hello}\n{hello}\n{other}\n"


def test_what_is_refused_ends_a_script(cli: Cli, talker: Path, typed: Typed) -> None:
    typed("a <|im_end|> in it\nHello\n")
    result = cli("chat", "run")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("error: message 0: expected a content without special tokens")
    typed(b"\xff\n")
    result = cli("chat", "run")
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        "error: standard input, line 1: expected UTF-8, got other bytes; convert it\n"
    )


def test_a_model_without_a_template_cannot_converse(cli: Cli, trained: Path, typed: Typed) -> None:
    typed("Hello\n")
    result = cli("chat", "run")
    assert (result.code, result.out) == (3, "")
    assert result.err == (
        "error: run: a conversation needs a tokenizer with a chat template, and this model's has "
        "none; use tisslm generate, or a model that was made for conversations\n"
    )


def test_a_model_without_a_tokenizer_neither(
    cli: Cli, trained: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load_model(trained)
    monkeypatch.setattr("tisslm.cli.chat.load_model", lambda path, **_: (found[0], None))
    typed("Hello\n")
    assert cli("chat", "run").err == (
        "error: run: the model has no tokenizer, so it cannot converse; put its tokenizer.json "
        "into the folder of a published model, or train with a dataset that has one\n"
    )


def test_on_a_terminal_answers_can_be_stopped(
    sessions: list[Session], talker: Path, folder: Path
) -> None:
    command = [sys.executable, "-m", "tisslm", "chat", "run", "--temperature", "0"]
    session = Session([*command, "--max-new-tokens", "2000"], folder)
    sessions.append(session)

    def wait(what: Callable[[str], bool]) -> None:
        end = time.monotonic() + 60
        while not what(session.everything):
            assert time.monotonic() < end, session.everything
            assert session.read(), session.everything

    def prompts() -> int:
        return session.everything.count("> ")

    wait(lambda text: text.count("> ") == 1)
    assert "/reset forgets all that was said" in session.everything
    session.type("Hello <|im_end|>\n")
    wait(lambda text: "error: message 0" in text and prompts() == 2)
    session.type("Hello\n")
    shown = len(session.everything)
    wait(lambda text: len(text) > shown + 20)
    session.process.send_signal(signal.SIGINT)
    wait(lambda text: prompts() == 3)
    session.type("\x04")
    assert session.end() == 0

"""The process that renders chat templates: started by ``template``, and run as a script.

A template is a program of whoever made the model. jinja2's sandbox keeps it from Python's objects;
time and memory are limits of this process, because no check in the sandbox sees what one operation
takes: ``range`` within ``range``, ``'x' * 10**9``, a power, a filter with a large width.

Lines of JSON come in and go out. The first has the template, and each after it a conversation. Only
the standard library and jinja2 are imported, so that starting is fast.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

#: The file to which answers are written: a pipe, in the place of standard output.
ANSWERS = 1

#: Characters by which the end of an introduction is known again.
TAIL = 8

Message = dict[str, str]
Spans = list[tuple[int, int]]


class TooLargeError(Exception):
    """The text is longer than a template needs."""


class Generation(Extension):
    """The tag ``{% generation %}``, which encloses what the assistant says.

    The text within is put between marks that are random, so that no text can have them; they are
    taken out of the rendered text.
    """

    tags = {"generation"}  # noqa: RUF012 (as its class declares it)
    begin, end = (f"\x02{os.urandom(16).hex()}\x03" for _ in range(2))
    used = False

    def parse(self, parser: Parser) -> nodes.Node:
        """Return the block between the marks."""
        Generation.used = True
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: Callable[[], str]) -> str:
        return f"{self.begin}{caller()}{self.end}"


class Sandbox(ImmutableSandboxedEnvironment):
    """The sandbox, in which an attribute that is not safe is an error, even if it is not used."""

    def unsafe_undefined(self, obj: Any, attribute: str) -> NoReturn:
        """Refuse the attribute."""
        raise SecurityError(f"the attribute {attribute!r} of a {type(obj).__name__}")


def environment() -> Sandbox:
    """Return the sandbox with what Hugging Face's templates expect."""
    made = Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    made.filters["tojson"] = to_json
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = strftime_now
    return made


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return a value as JSON; jinja2's own filter writes HTML's special characters otherwise."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def raise_exception(message: str) -> NoReturn:
    """Refuse a conversation, with the template's own words."""
    raise TemplateError(message)


def strftime_now(pattern: str) -> str:
    """Return the time of day by a pattern."""
    return datetime.now().strftime(pattern)


class Renderer:
    """One template with the names of its tokens.

    Parameters
    ----------
    template : str
    tokens : dict
        The values of ``bos_token`` and the like.
    specials : list of str
        The tokens that no message has: one of them ends a turn.
    """

    def __init__(self, template: str, tokens: dict[str, str], specials: list[str]) -> None:
        self._template = environment().from_string(template)
        self._tokens, self._specials = tokens, specials
        self.longest = 0  # characters of a text

    def conversation(self, messages: list[Message], reply: bool) -> dict[str, Any]:
        """Return the text of a conversation, and the spans of characters that are learned."""
        text = self._text(messages, reply)
        if Generation.used:
            text, spans = without_marks(text)
        else:
            spans = [] if reply else self._differences(messages, text)
        return {"text": text, "spans": spans}

    def _text(self, messages: Sequence[Message], reply: bool) -> str:
        """Render, and stop where the text becomes too long."""
        pieces, size = [], 0
        for piece in self._template.generate(
            messages=list(messages),
            tools=None,
            documents=None,
            add_generation_prompt=reply,
            **self._tokens,
        ):
            pieces.append(piece)
            size += len(piece)
            if size > self.longest:
                raise TooLargeError
        return "".join(pieces)

    def _differences(self, messages: list[Message], text: str) -> Spans:
        """Return where the text is another if the assistant says something else, with the ends."""
        spans: Spans = []
        for number, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            other = [*messages]
            other[number] = {**message, "content": Generation.begin}
            before, found, after = self._text(other, False).rpartition(Generation.begin)
            if not found:  # the template leaves this message out
                continue
            start = common(before, text)
            stop = max(start, len(text) - common(after[::-1], text[::-1]))
            start = self._after_introduction(text[:start], self._text(messages[:number], True))
            spans.append((start, self._after_end(text, stop)))
        return spans

    def _after_introduction(self, before: str, introduced: str) -> int:
        """Return where in the text before a content the assistant's part begins.

        What stands between the introduction, which is given, and the content is the assistant's,
        unless it is a header.
        """
        tail = introduced[-TAIL:]
        place = before.rfind(tail) + len(tail)
        between = before[place:]
        if not tail or tail not in before or any(name in between for name in self._specials):
            return len(before)
        return place

    def _after_end(self, text: str, stop: int) -> int:
        """Return where the special token ends that follows a content, or else the content."""
        place = len(text) - len(text[stop:].lstrip())
        ends = [place + len(name) for name in self._specials if text.startswith(name, place)]
        return max(ends, default=stop)


def common(one: str, other: str) -> int:
    """Return the length of the common beginning of two texts."""
    if other.startswith(one):
        return len(one)
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def without_marks(text: str) -> tuple[str, Spans]:
    """Return a text without the marks of ``Generation``, and the spans that were between them."""
    spans: Spans = []
    kept: list[str] = []
    size = 0
    first, *others = text.split(Generation.begin)
    kept.append(first.replace(Generation.end, ""))
    size += len(kept[-1])
    for part in others:
        inside, _, after = part.partition(Generation.end)
        spans.append((size, size + len(inside)))
        kept += [inside, after.replace(Generation.end, "")]
        size += len(inside) + len(kept[-1])
    return "".join(kept), [span for span in spans if span[0] < span[1]]


def reason_of(error: Exception) -> tuple[str, str]:
    """Return the kind of an error, and its words."""
    if isinstance(error, MemoryError | TooLargeError):
        return "large", ""
    if isinstance(error, SecurityError):
        return "unsafe", str(error)
    if type(error) is TemplateError:
        return "refused", str(error)
    kind = "" if isinstance(error, TemplateError) else f"{type(error).__name__}: "
    return "wrong", f"{kind}{error}"


def answer(work: Callable[[], dict[str, Any]], seconds: float) -> None:
    """Write what some work returns, or why it failed; the system ends it after its time."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        found = work()
    except Exception as error:
        kind, words = reason_of(error)
        found = {"kind": kind, "reason": words[:1000]}
    line = json.dumps(found)
    signal.setitimer(signal.ITIMER_PROF, 0.0)
    with os.fdopen(ANSWERS, "wb", closefd=False) as pipe:
        pipe.write(line.encode() + b"\n")


def limit(memory: int) -> None:
    """Set the limits of this process, which no template can raise: memory beyond what it has."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, whatever it is doing
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started it
    with open("/proc/self/statm", encoding="ascii") as pages:
        memory += int(pages.read().split()[0]) * resource.getpagesize()
    for kind, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        before = resource.getrlimit(kind)[1]  # which may be lower, and cannot be raised
        low = most if before == resource.RLIM_INFINITY else min(most, before)
        resource.setrlimit(kind, (low, low))


def serve() -> None:
    """Answer lines until there are no more."""
    first = json.loads(sys.stdin.readline())
    limit(first["memory"])
    made: list[Renderer] = []

    def begin() -> dict[str, Any]:
        made.append(Renderer(first["template"], first["tokens"], first["specials"]))
        return {"ready": jinja2.__version__}

    answer(begin, first["seconds"])
    for line in sys.stdin:
        asked = json.loads(line)
        renderer = made[0]
        renderer.longest = asked["longest"]

        def conversation(asked: dict[str, Any] = asked, by: Renderer = renderer) -> dict[str, Any]:
            return by.conversation(asked["messages"], asked["reply"])

        answer(conversation, asked["seconds"])


if __name__ == "__main__":
    serve()

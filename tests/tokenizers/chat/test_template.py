"""Templates as programs of strangers: what they may not have, and that nothing lasts or grows."""

from __future__ import annotations

import gc
import importlib.util
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from chat_templates import PLAIN, turns

from tisslm.errors import ConfigError, DataError
from tisslm.tokenizers.chat import ChatTemplate
from tisslm.tokenizers.chat import template as module

HELLO = turns("Hello")
UNSAFE = "the chat template asks for what no template may have (the attribute {}); use another one"
LARGE = "the chat template needs too much memory, or writes too long a text; use another one"


def render(template: str, messages: list[dict[str, str]] = HELLO, **tokens: str) -> str:
    return ChatTemplate(template, tokens, []).render(messages)[0]


def refused(template: str) -> str:
    with pytest.raises(DataError) as caught:
        render(template)
    return str(caught.value)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ bos_token }}{{ messages[0]['content'] }}", "<s>Hello"),
        ("{% for m in messages %}\n    {% if true %}\n{{ m.role }}\n    {% endif %}\n{% endfor %}",
         "user\n"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{{ {'a': '<é>'} | tojson }}", '{"a": "<é>"}'),
        ("{{ {'b': 1, 'a': [2]} | tojson(indent=1, sort_keys=true) }}",
         '{\n "a": [\n  2\n ],\n "b": 1\n}'),
        ("{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}", "TrueTrueFalse"),
        ("{{ strftime_now('%Y') | length }}{{ none_such is defined }}", "4False"),
        ("{% generation %}a{% endgeneration %}", "a"),
    ],
)  # fmt: skip
def test_a_template_has_what_it_expects(template: str, text: str) -> None:
    assert render(template, bos_token="<s>") == text


@pytest.mark.parametrize(
    ("template", "attribute"),
    [
        ("{{ ''.__class__ }}", "'__class__' of a str"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "'__class__' of a str"),
        ("{{ ''['__class__'] }}", "'__class__' of a str"),
        ("{{ '' | attr('__class__') }}", "'__class__' of a str"),
        ("{{ '{0.__class__}'.format('') }}", "'__class__' of a str"),
        ("{{ raise_exception.__globals__ }}", "'__globals__' of a function"),
        ("{% if messages.__len__ %}{% endif %}", "'__len__' of a list"),
        ("{{ messages.append(1) }}", "'append' of a list"),
        ("{{ messages[0].update({}) }}", "'update' of a dict"),
    ],
)
def test_what_leads_out_of_the_sandbox_is_refused(template: str, attribute: str) -> None:
    assert refused(template) == UNSAFE.format(attribute)


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'x' * 10**9 }}",
        "{{ ['x'] * 10**9 }}",
        "{{ 'x' * 10**7 }}",
        "{{ '%1000000000d' | format(3) }}",
        "{{ '{:1000000000}'.format(3) }}",
        "{{ 'x' | center(10**10) }}",
        "{% set n = namespace(x='x' * 99) %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}"
        "{% endfor %}",
        "{% for i in range(99999) %}{% for i in range(99) %}{{ 'xxxx' }}{% endfor %}{% endfor %}",
    ],
)
def test_what_grows_is_refused(template: str) -> None:
    assert refused(template) == LARGE


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 9 ** (9 ** 9) }}",
        "{% set n = 200000 %}{% for i in range(99999) %}{{ (2**n + i) % 7 }}{% endfor %}",
    ],
)
def test_what_lasts_is_ended(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.3)
    begun = time.process_time()
    assert refused(template).startswith("the chat template takes more than 0.3 s of processor time")
    assert time.process_time() - begun < 0.5  # all of it was in the other process


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ messages", "unexpected end of template, expected 'end of print statement'."),
        ("{% nonsense %}", "Encountered unknown tag 'nonsense'."),
        ("{% include 'other' %}", "TypeError: no loader for this environment specified"),
        ("{{ a.b.c }}", "'a' is undefined"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError: "),
        ("{{ " + "(" * 9999 + " }}", "RecursionError: "),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(template: str, reason: str) -> None:
    found = refused(template)
    assert found.startswith(f"the chat template fails ({reason}")
    assert found.endswith("; mend it, or use another one")
    assert len(found) < 500


def test_the_words_of_a_template_are_made_visible_and_short() -> None:
    assert refused("{{ raise_exception('a\x1b[31m' ~ 'b' * 999) }}") == (
        f"the chat template refuses the conversation (a\\x1b[31m{'b' * 291}...); mend or remove it"
    )


def test_it_goes_on_after_a_conversation_that_failed() -> None:
    template = ChatTemplate("{{ 1 // (messages | length - 1) }}{{ 'ok' }}", {}, [])
    for _ in range(2):
        with pytest.raises(DataError):
            template.render(turns("a"))
        assert template.render(turns("a", "b"))[0] == "1ok"


def test_a_new_process_is_started_after_one_that_was_ended() -> None:
    slow = "{% if messages | length == 1 %}{% for i in range(99999) %}{% for j in range(99999) %}"
    slow += "{% endfor %}{% endfor %}{% endif %}ok"
    template = ChatTemplate(slow, {}, [])
    assert template.render(turns("a", "b"))[0] == "ok"
    with pytest.raises(DataError, match=r"takes more than 1 s of processor time"):
        template.render(turns("a"))
    assert template.render(turns("a", "b"))[0] == "ok"


def children() -> set[str]:
    """Return the numbers of the processes that this one has started."""
    return set(Path("/proc/thread-self/children").read_text().split())


def test_the_process_ends_with_its_template() -> None:
    gc.collect()
    before = children()
    template: Any = ChatTemplate(PLAIN["chatml"], {}, [])
    assert children() == before
    template.render(HELLO)
    template.render(HELLO)
    assert len(children() - before) == 1
    del template
    gc.collect()
    assert children() == before


def test_threads_may_share_a_template() -> None:
    template = ChatTemplate("{{ messages[0].content }}", {}, [])
    found: dict[int, str] = {}

    def ask(i: int) -> None:
        found[i] = template.render(turns(str(i) * 1000))[0]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {i: str(i) * 1000 for i in range(8)}


def test_a_text_as_long_as_its_messages_is_no_harm() -> None:
    long = "é" * 2**21
    assert render("{{ messages[0].content }}", turns(long)) == long


def test_without_jinja2_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        ChatTemplate("a", {}, [])
    assert str(caught.value) == (
        "chat template: expected jinja2 to be installed, found none; pip install tisslm[chat]"
    )

"""A Hugging Face folder with a tokenizer: what its files say, and its chat template."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from chat_templates import CONVERSATIONS, PLAIN, TAGGED, tokenizer_with
from fuzz.mutators import changed_bytes, changed_json
from fuzz.targets.vocabulary import use

from tisslm.tokenizers.bpe import BpeTokenizer

TEMPLATE = "chat_template.jinja"
TEMPLATES = [*PLAIN.values(), *TAGGED.values()]
#: Parts of templates that are put into others.
PIECES = [
    "{% for i in range(99999) %}",
    "{% endfor %}",
    "{% generation %}",
    "{% endgeneration %}",
    "{% break %}",
    "{% set messages = [] %}",
    "{{ messages }}",
    "{{ messages[9] }}",
    "{{ raise_exception(messages) }}",
    "{{ ''.__class__ }}",
    "{{ 'x' * 10**9 }}",
    "{{ 9 ** (9 ** 9) }}",
    "{%",
    "}}",
    "\x00",
]


class Files:
    """Files of all kinds that say something of a tokenizer, and templates by themselves."""

    def __init__(self, folder: Path) -> None:
        made = tokenizer_with(PLAIN["chatml"]).published()
        roles = {"eos_token": {"content": "</s>"}, "bos_token": "<s>", "unk_token": None}
        named = [{"name": "default", "template": PLAIN["chatml"]}]
        self.good = {
            **{name: json.dumps(content) for name, content in made.items()},
            "tokenizer_config.json": json.dumps(
                {**made["tokenizer_config.json"], **roles, "add_bos_token": True,
                 "chat_template": named}
            ),
            "special_tokens_map.json": json.dumps(roles),
            "generation_config.json": json.dumps({"eos_token_id": [0, 4], "bos_token_id": 3}),
            "config.json": json.dumps({"eos_token_id": 4, "model_type": "llama"}),
        }  # fmt: skip

    def copy(self, case: Path) -> None:
        case.mkdir(parents=True)
        for name, content in self.good.items():
            (case / name).write_text(content)

    def change(self, rng: Random, case: Path) -> None:
        self.copy(case)
        if rng.random() < 0.2:  # each is a process of its own
            (case / TEMPLATE).write_bytes(_changed_template(rng))
            return
        path = case / rng.choice(sorted(self.good.keys() - {"tokenizer.json"}))
        change = changed_json if rng.random() < 0.8 else changed_bytes
        path.write_bytes(change(rng, path.read_bytes()))

    def readers(self, case: Path) -> list[Callable[[], Any]]:
        def read() -> None:
            use(BpeTokenizer.from_folder(case))

        def converse() -> None:
            tokenizer = BpeTokenizer.from_folder(case)
            for conversation in list(CONVERSATIONS.values())[:2]:
                ids, learn = tokenizer.encode_chat(conversation)
                assert len(ids) == len(learn)

        return [read, converse] if (case / TEMPLATE).exists() else [read]


def _changed_template(rng: Random) -> bytes:
    text = rng.choice(TEMPLATES)
    if rng.random() < 0.5:
        return changed_bytes(rng, text.encode())
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(text))
        text = text[:place] + rng.choice(PIECES) + text[place:]
    return text.encode()

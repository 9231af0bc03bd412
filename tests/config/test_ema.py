"""The section ``[ema]``: read, refused, written and read again."""

from __future__ import annotations

from typing import Any

import pytest

from tisslm.config import EmaConfig, RunConfig
from tisslm.errors import ConfigError

TEXT: dict[str, Any] = {"data": {"path": "corpus.txt"}}


def test_the_section_asks_for_it() -> None:
    assert RunConfig.from_mapping(TEXT).ema is None
    assert RunConfig.from_mapping(TEXT | {"ema": {}}).ema == EmaConfig()
    config = RunConfig.from_mapping(TEXT | {"ema": {"decay": 0.99, "every": 4}})
    assert config.ema == EmaConfig(decay=0.99, every=4, start=0, warmup=True)
    assert RunConfig.from_mapping(config.resolved()) == config


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (
            {"decay": 1.0},
            "ema.decay: expected a number between 0 and 1, such as 0.999, got 1.0",
        ),
        ({"decay": 0}, "ema.decay: expected a number between 0 and 1, such as 0.999, got 0"),
        (
            {"decay": float("nan")},
            "ema.decay: expected a number between 0 and 1, such as 0.999, got nan",
        ),
        ({"every": 0}, "ema.every: expected an integer >= 1, got 0"),
        ({"start": -1}, "ema.start: expected an integer >= 0, got -1"),
        ({"warmup": 3}, "ema.warmup: expected true or false, got 3"),
        ({"decai": 0.9}, "ema.decai: unknown key; did you mean ema.decay?"),
    ],
)
def test_what_is_refused(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_mapping(TEXT | {"ema": table})
    assert str(caught.value) == words

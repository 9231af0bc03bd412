"""``[data]``: one source or several, and what is said of wrong settings."""

from __future__ import annotations

import inspect
import tomllib
from typing import Any

import pytest

from tisslm.config import RunConfig, SourceTable
from tisslm.config.aliases import EXAMPLES
from tisslm.config.toml_text import dump_toml
from tisslm.datasets import ExampleDataset
from tisslm.errors import ConfigError


def of(**data: Any) -> RunConfig:
    return RunConfig.from_mapping({"data": data})


def test_sources_are_tables_and_survive_the_resolved_configuration() -> None:
    text = """
    [data]
    packing = "whole"
    [[data.sources]]
    path = "a.txt"
    weight = 3
    [[data.sources]]
    path = "b.jsonl"
    text_field = "body"
    valid_fraction = 0
    """
    config = RunConfig.from_mapping(tomllib.loads(text))
    first, second = config.data.sources
    assert (first.path, first.weight, first.valid_fraction) == ("a.txt", 3.0, None)
    assert second == SourceTable(path="b.jsonl", text_field="body", valid_fraction=0)
    again = RunConfig.from_mapping(tomllib.loads(dump_toml(config.resolved())))
    assert again == config
    assert again.resolved() == config.resolved()


def test_sources_can_be_set_on_the_command_line() -> None:
    given = 'data.sources=[{path="a", weight=2}, {path="b"}]'
    config = RunConfig.load(overrides=[given, "data.path="], env={})
    assert [source.path for source in config.data.sources] == ["a", "b"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"sources": 3}, "data.sources: expected a list of tables, each with a path, got 3"),
        ({"sources": ["a"]}, 'data.sources[0]: expected a table with a path, got "a"'),
        ({"sources": [{}]}, "data.sources[0].path: not set; name a file or folder"),
        (
            {"sources": [{"path": "a"}, {"path": "b", "wieght": 2}]},
            "data.sources[1].wieght: unknown key; did you mean data.sources[1].weight?",
        ),
        (
            {"sources": [{"path": "a", "weight": 0}]},
            "data.sources[0].weight: expected a finite number > 0, got 0",
        ),
        (
            {"sources": [{"path": "a", "mask_prompt": 1}]},
            "data.sources[0].mask_prompt: expected true or false, got 1",
        ),
        (
            {"path": "a", "sources": [{"path": "b"}]},
            'data.path: expected nothing beside data.sources, got "a"; put it in a table of its '
            "own, [[data.sources]]",
        ),
        (
            {"valid_path": "a", "sources": [{"path": "b"}]},
            'data.valid_path: expected nothing beside data.sources, got "a"; put it in a table of '
            "its own, [[data.sources]]",
        ),
        ({"packing": "tight"}, 'data.packing: expected "stream" or "whole", got "tight"'),
        ({"bad_records": True}, 'data.bad_records: expected "error" or "skip", got true'),
        ({"document_mask": "no"}, 'data.document_mask: expected true or false, got "no"'),
        ({"vocab_size": 0}, "data.vocab_size: expected an integer >= 1, got 0"),
        ({"text_field": ""}, 'data.text_field: expected a field\'s name, got ""'),
    ],
)
def test_wrong_settings_are_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        of(**({} if "sources" in data else {"path": "a"}), **data)
    assert str(caught.value) == message


def test_a_wrong_source_says_where_it_was_set() -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig.load(overrides=["data.sources=[{}]", "data.path="], env={})
    assert str(caught.value) == (
        "data.sources[0].path: not set; name a file or folder (set by --set data.sources)"
    )


@pytest.mark.parametrize("key", EXAMPLES)
def test_a_key_of_examples_alone_names_their_dataset(key: str) -> None:
    assert key in inspect.signature(ExampleDataset).parameters
    with pytest.raises(ConfigError, match=rf'data\.{key}: .* read with data\.name = "examples"'):
        of(path="a.jsonl", **{key: 1})
    of(path="a.jsonl", name="examples", **{key: 1})

"""``[[optimizer.groups]]`` and ``optimizer.layer_decay``: read, refused, written and read again."""

from __future__ import annotations

import tomllib
import warnings
from pathlib import Path
from typing import Any

import pytest

from tisslm.config import GroupConfig, RunConfig
from tisslm.config.toml_text import dump_toml
from tisslm.errors import ConfigError

TEXT: dict[str, Any] = {"data": {"path": "corpus.txt"}}
GROUPS = [{"match": "blocks.0.*", "lr_scale": 2}, {"match": ["a", "b"], "freeze": True}]


def read(**optimizer: Any) -> RunConfig:
    return RunConfig.from_mapping({**TEXT, "optimizer": optimizer})


def test_they_are_no_options_of_the_optimizer() -> None:
    config = read(beta1=0.8, layer_decay=0.9, groups=GROUPS)
    assert config.optimizer == ("adamw", {"beta1": 0.8})
    assert config.grouping.layer_decay == 0.9
    first, second = config.grouping.groups
    assert (first.match, first.lr_scale, first.weight_decay) == (["blocks.0.*"], 2.0, None)
    assert second == GroupConfig(match=["a", "b"], freeze=True)


def test_what_a_run_records_is_read_again() -> None:
    config = read(layer_decay=0.9, groups=GROUPS)
    assert RunConfig.from_mapping(tomllib.loads(dump_toml(config.resolved()))) == config
    assert read(beta1=0.8).resolved()["optimizer"] == {"name": "adamw", "beta1": 0.8}


def test_another_optimizer_keeps_them(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('[data]\npath = "a"\n[optimizer]\nlayer_decay = 0.5\n[[optimizer.groups]]\n')
    path.write_text(path.read_text() + 'match = "*"\nlr_scale = 2.0\n')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = RunConfig.load(path, ["optimizer.name=sgd"], {})
    assert config.optimizer == ("sgd", {})
    assert config.grouping.given() == {
        "layer_decay": 0.5,
        "groups": [{"match": ["*"], "lr_scale": 2.0}],
    }
    given = ["optimizer.groups=[{match = 'head.*', freeze = true}]"]
    (group,) = RunConfig.load(path, given, {}).grouping.groups
    assert (group.match, group.freeze) == (["head.*"], True)


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (
            {"groups": [GROUPS[1], {"match": "x", "lr_scale": 0}]},
            "optimizer.groups[1].lr_scale: expected a finite number > 0, got 0; parameters that "
            "are to stay as they are have freeze = true",
        ),
        (
            {"groups": [{"lr_scale": 1}]},
            'optimizer.groups[0].match: not set; name parameters by patterns, such as "blocks.0.*"',
        ),
        (
            {"groups": [{"match": "x", "lr": 1}]},
            "optimizer.groups[0].lr: unknown key; the keys of [[optimizer.groups]] are match, "
            "lr_scale, weight_decay, freeze",
        ),
        (
            {"groups": [{"match": "x", "weight_decay": 0.5, "freeze": True}]},
            "optimizer.groups[0].weight_decay: expected none beside freeze = true, got 0.5; what "
            "is frozen is not trained, leave one out",
        ),
        (
            {"groups": [{"match": "x", "weight_decay": -0.1}]},
            "optimizer.groups[0].weight_decay: expected a finite number >= 0, got -0.1",
        ),
        ({"groups": ["x"]}, 'optimizer.groups[0]: expected a table with a match, got "x"'),
        (
            {"groups": {"match": "x"}},
            "optimizer.groups: expected a list of tables with a match each, got a table; write "
            "[[optimizer.groups]]",
        ),
        (
            {"layer_decay": 1.5},
            "optimizer.layer_decay: expected a number above 0 and up to 1, got 1.5",
        ),
    ],
)
def test_what_is_refused(optimizer: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(**optimizer)
    assert str(caught.value) == words

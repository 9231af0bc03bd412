"""Groups of parameters by patterns of names, and rates that fall with depth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from tisslm.errors import ConfigError
from tisslm.memory import Parameters, ParameterSpec
from tisslm.memory.grouping import arrange, decay_by_layer, described, regroup, summarized
from tisslm.memory.shards import ParameterShard

SPECS = [
    ParameterSpec("embedding.token.weight", (5, 4)),
    ParameterSpec("blocks.0.up.weight", (6, 4), lr_scale=0.5),
    ParameterSpec("blocks.0.up.bias", (6,), decay=False),
    ParameterSpec("blocks.10.up.weight", (6, 4)),
    ParameterSpec("final_norm.weight", (4,), decay=False),
    ParameterSpec("head.weight", (5, 4)),
]


@dataclass
class Given:
    match: list[str]
    lr_scale: float | None = None
    weight_decay: float | None = None
    freeze: bool = False


def test_a_parameter_is_in_the_first_group_that_matches_it():
    found = regroup(
        SPECS,
        [
            Given(["blocks.0.*", "head.*"], lr_scale=0.1),
            Given(["*.weight"], weight_decay=0.2),
        ],
    )
    assert [(s.lr_scale, s.weight_decay) for s in found] == [
        (1.0, 0.2),
        (0.05, None),
        (0.1, None),
        (1.0, 0.2),
        (1.0, 0.2),
        (0.1, None),
    ]
    assert regroup(SPECS, []) == SPECS


def test_all_but_some_are_frozen_by_a_group_before_that_says_nothing():
    found = regroup(SPECS, [Given(["head.*"]), Given(["*"], freeze=True)])
    assert [s.name for s in found if s.trainable] == ["head.weight"]
    assert found[-1] == SPECS[-1]


def test_rates_fall_from_the_head_to_the_embeddings():
    scales = [s.lr_scale for s in decay_by_layer(SPECS, 0.5)]
    # eleven blocks: the last one has decay^1, the first decay^11, embeddings decay^12
    assert scales == [0.5**12, 0.5 * 0.5**11, 0.5**11, 0.5, 1.0, 1.0]
    assert decay_by_layer(SPECS, 1.0) == SPECS


def test_rates_of_groups_and_of_layers_are_multiplied():
    found = arrange(SPECS, [Given(["blocks.*"], lr_scale=3.0)], 0.5)
    assert [s.lr_scale for s in found[:4]] == [0.5**12, 1.5 * 0.5**11, 3.0 * 0.5**11, 1.5]


def test_what_training_freeze_names_is_frozen_beside_groups():
    found = arrange(SPECS, [Given(["head.*"], freeze=True)], 1.0, ["blocks.*"])
    assert [s.name for s in found if s.trainable] == ["embedding.token.weight", "final_norm.weight"]


def refused(*how):
    with pytest.raises(ConfigError) as caught:
        arrange(SPECS, *how)
    return str(caught.value)


def test_what_is_refused():
    assert refused([Given(["*"]), Given(["head.*", "blocks.1.*"])]) == (
        "optimizer.groups[1].match: expected the name of a parameter or a pattern of names, got "
        "'blocks.1.*', which matches none of 6; the nearest is 'blocks.10.up.weight'"
    )
    assert refused([Given(["*"]), Given(["head.*"], lr_scale=0.5)]) == (
        "optimizer.groups[1].match: expected something that no earlier group has, got ['head.*']; "
        "a parameter is in the first group that matches it, so put this one before"
    )
    assert refused([Given(["*"], freeze=True)]) == (
        "optimizer.groups: expected something left to train, got groups that freeze all of 6 "
        "parameters; leave some out"
    )
    assert refused([Given(["head.*"], weight_decay=0.0)], 1.0, ["head.*"]) == (
        "optimizer.groups[0]: expected something that is trained, got 1 parameters that are all "
        "frozen, such as head.weight; leave it out"
    )
    assert refused((), 0.0) == (
        "optimizer.layer_decay: expected a number above 0 and up to 1, got 0.0"
    )
    with pytest.raises(ConfigError, match=r"expected a model of blocks.*whose first is head\.wei"):
        decay_by_layer(SPECS[-1:], 0.5)


def test_those_that_are_trained_alike_lie_together():
    decays = [replace(s, weight_decay=0.1) if "up" in s.name else s for s in SPECS]
    parameters = Parameters(decays)
    kinds = [(g.decay, g.lr_scale, g.weight_decay) for g in parameters.groups]
    assert kinds == [
        (True, 0.5, 0.1),
        (True, 1.0, None),
        (True, 1.0, 0.1),
        (False, 1.0, None),
        (False, 1.0, 0.1),
    ]
    assert [g.decay_of(0.7) for g in parameters.groups] == [0.1, 0.7, 0.1, 0.0, 0.1]
    assert [p.decay_of(0.7) for p in parameters] == [0.7, 0.1, 0.1, 0.1, 0.0, 0.7]
    shard = ParameterShard(parameters, [(0, parameters.data.size)])
    assert shard.groups == parameters.groups
    assert [p.decay_of(0.7) for p in shard] == [p.decay_of(0.7) for p in parameters]


def test_it_is_told_in_words():
    parameters = Parameters(arrange(SPECS, [Given(["head.*"], weight_decay=0.25)]))
    assert [described(p) for p in parameters if described(p)] == [
        "lr_scale 0.5",
        "weight_decay 0.25",
    ]
    assert summarized(parameters) == {
        "": (4, 20 + 6 + 24 + 4),
        "lr_scale 0.5": (1, 24),
        "weight_decay 0.25": (1, 20),
    }
    assert summarized(Parameters([SPECS[0]])) == {}

"""What a mapping of rotary scaling may say, and what is said of one that may not."""

from __future__ import annotations

import json

import pytest

from tisslm.config.model.rope_scaling import Linear, Llama3, RopeScaling, Unscaled, Yarn
from tisslm.errors import ConfigError
from tisslm.models.rotary import Rotary

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
YARN = {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 32768}


def test_every_kind_is_made_of_its_numbers():
    assert RopeScaling.parse(None, 64) == Unscaled()
    assert RopeScaling.parse({"rope_type": "default"}, 64) == Unscaled()
    assert RopeScaling.parse({"type": "linear", "factor": 2}, 64) == Linear(2.0)
    assert RopeScaling.parse(LLAMA3, 64) == Llama3(32.0, 1.0, 4.0, 8192)
    assert RopeScaling.parse(YARN, 64) == Yarn(4.0, 32768)


def test_both_spellings_of_the_kind_are_taken_and_may_stand_together():
    older = {"type" if key == "rope_type" else key: value for key, value in LLAMA3.items()}
    assert RopeScaling.parse(older, 64) == RopeScaling.parse(LLAMA3, 64)
    assert RopeScaling.parse({**LLAMA3, "type": "llama3"}, 64) == RopeScaling.parse(LLAMA3, 64)


def test_the_length_of_the_model_stands_for_the_original_one():
    for kind in (LLAMA3, YARN):
        short = {k: v for k, v in kind.items() if k != "original_max_position_embeddings"}
        assert RopeScaling.parse(short, 777).original_max_position_embeddings == 777


def test_what_is_null_is_left_out():
    """As files have it: ``"attention_factor": null``."""
    assert RopeScaling.parse({**YARN, "attention_factor": None, "beta_fast": None}, 64) == Yarn(
        4.0, 32768
    )


@pytest.mark.parametrize(
    "given", [None, {"type": "linear", "factor": 3}, LLAMA3, YARN, {**YARN, "mscale": 0.5}]
)
def test_values_are_json_and_make_an_equal_object(given):
    scaling = RopeScaling.parse(given, 64)
    again = json.loads(json.dumps(scaling.values()))
    assert RopeScaling.parse(again, 99) == scaling
    assert Rotary(64, scaling=scaling) == Rotary(64, scaling=RopeScaling.parse(again, 99))


POSSIBLE = "default, linear, llama3, yarn"
REFUSED = {
    "not a table": (
        "linear",
        "model.rope_scaling: expected a table with rope_type and its numbers, got 'linear'",
    ),
    "no kind": (
        {"factor": 2.0},
        f"model.rope_scaling.rope_type: a value is needed, one of {POSSIBLE}",
    ),
    "two kinds": (
        {"rope_type": "linear", "type": "yarn", "factor": 2.0},
        "model.rope_scaling: expected rope_type and type to be the same, got 'linear' and 'yarn'. "
        "Leave out type",
    ),
    "unknown kind": (
        {"rope_type": "liner", "factor": 2.0},
        f"model.rope_scaling.rope_type: expected one of {POSSIBLE}, got 'liner'. Did you mean "
        "'linear'?",
    ),
    "a kind that is no text": (
        {"rope_type": ["linear"]},
        f"model.rope_scaling.rope_type: expected one of {POSSIBLE}, got ['linear']",
    ),
    "missing": ({"type": "linear"}, "model.rope_scaling.factor: a value is needed for rope_type "
                "'linear'; set it"),
    "superfluous": (
        {**YARN, "beta_fasst": 2.0},
        "model.rope_scaling: unknown key 'beta_fasst' of rope_type 'yarn'. Known: factor, "
        "original_max_position_embeddings, beta_fast, beta_slow, truncate, attention_factor, "
        "mscale, mscale_all_dim. Did you mean 'beta_fast'?",
    ),
    "superfluous for default": (
        {"rope_type": "default", "factor": 2.0},
        "model.rope_scaling: unknown key 'factor' of rope_type 'default'. It takes no other key",
    ),
    "text for a number": (
        {"type": "linear", "factor": "2"},
        "model.rope_scaling.factor: expected a number of at least 1 and below 2147483648, got '2'",
    ),
    "true for a number": (
        {"type": "linear", "factor": True},
        "model.rope_scaling.factor: expected a number of at least 1 and below 2147483648, got True",
    ),
    "below 1": (
        {"type": "linear", "factor": 0.5},
        "model.rope_scaling.factor: expected a number of at least 1 and below 2147483648, got 0.5",
    ),
    "a number for true": (
        {**YARN, "truncate": 1},
        "model.rope_scaling.truncate: expected true or false, got 1",
    ),
    "a fraction for a length": (
        {**YARN, "original_max_position_embeddings": 512.0},
        "model.rope_scaling.original_max_position_embeddings: expected a whole number above 0 and "
        "below 2147483648, got 512.0",
    ),
    "no number": (
        {**YARN, "beta_slow": float("nan")},
        "model.rope_scaling.beta_slow: expected a number of at least 0.001 and below 2147483648, "
        "got nan",
    ),
    "a vast number": (
        {**YARN, "mscale": 10**400},
        "model.rope_scaling.mscale: expected a number of at least 0 and below 2147483648, got 1000",
    ),
    "bounds of llama3": (
        {**LLAMA3, "high_freq_factor": 1.0},
        "model.rope_scaling.high_freq_factor: expected a number above low_freq_factor = 1.0, got "
        "1.0",
    ),
    "bounds of yarn": (
        {**YARN, "beta_fast": 0.5},
        "model.rope_scaling.beta_fast: expected at least beta_slow = 1.0, got 0.5",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_wrong_mapping_is_refused_in_a_sentence(given, message):
    with pytest.raises(ConfigError) as refused:
        RopeScaling.parse(given, 64)
    found = str(refused.value)
    assert found == message or (len(message) < len(found) and found.startswith(f"{message}000"))


@pytest.mark.parametrize("key", ["rope_type", "type"])
@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_a_kind_that_depends_on_the_length_of_a_call_is_refused_with_the_reason(key, kind):
    with pytest.raises(ConfigError) as refused:
        RopeScaling.parse({key: kind, "factor": 2.0}, 64)
    assert str(refused.value) == (
        f"model.rope_scaling.rope_type: {kind!r} is not possible, for its angles depend on the "
        "length of the text of a call, and here a token's depend on its position alone. Take one "
        f"of {POSSIBLE}"
    )

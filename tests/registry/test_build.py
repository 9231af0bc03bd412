"""Building: names, pairs and objects; options that are unknown, missing, refused or filled in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tisslm.errors import ConfigError, PluginError
from tisslm.registry import Registry, load_registry

if TYPE_CHECKING:
    from conftest import FakeSite

PLUGIN = """
from tisslm.contracts import Sink, Tokenizer

class Slate(Sink):
    def __init__(self, *given, size, chalk="white", **known):
        self.given, self.size, self.chalk, self.known = given, size, chalk, known
    def open(self, run): pass
    def write(self, step, metrics): pass

class Ruler(Sink):
    def __init__(self, first, max_steps, unit="cm", *, fine=False):
        if unit == 0:
            raise ValueError("unit is zero")
        self.first, self.max_steps, self.unit, self.fine = first, int(max_steps), unit, fine
    def open(self, run): pass
    def write(self, step, metrics): pass

class Plain(Sink):
    def open(self, run): pass
    def write(self, step, metrics): pass

class Words(Tokenizer):
    vocab_size = 1
    def __init__(self, *, lower=False): self.lower = lower
    def encode(self, text): return []
    def decode(self, ids): return ""
    def state(self): return {}
    @classmethod
    def from_state(cls, state): return cls()

class Trained(Words):
    @classmethod
    def from_text(cls, text, *, size=8):
        words = cls()
        words.text, words.size = text, size
        return words

@hookimpl
def tisslm_sinks():
    yield Entry("slate", Slate, "keeps everything")
    yield Entry("ruler", Ruler, "a ruler")
    yield Entry("plain", Plain, "takes nothing")

@hookimpl
def tisslm_tokenizers():
    yield Entry("words", Words, "words")
    yield Entry("trained", Trained, "trained words")
"""


@pytest.fixture
def registry(site: FakeSite) -> Registry:
    site.add("tisslm-desk", "2.0", PLUGIN)
    return load_registry()


def config_error(registry: Registry, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        registry.build(*args, **kwargs)
    return str(caught.value)


@pytest.mark.parametrize("spec", ["plain", ("plain", {}), ["plain", {}]])
def test_a_name_or_a_pair_is_built(registry: Registry, spec: object) -> None:
    assert type(registry.build("sink", spec)) is registry.get("sink", "plain")


def test_arguments_and_options_reach_the_constructor(registry: Registry) -> None:
    ruler = registry.build("sink", ("ruler", {"max_steps": 7, "fine": True}), "first")
    assert (ruler.first, ruler.max_steps, ruler.unit, ruler.fine) == ("first", 7, "cm", True)


def test_an_object_is_returned_as_it_is(registry: Registry) -> None:
    sink = registry.get("sink", "plain")()
    assert registry.build("sink", sink, defaults={"max_steps": 3}) is sink


@pytest.mark.parametrize("spec", [3, None, ("plain",), ("plain", "fast"), (3, {}), {"name": "x"}])
def test_anything_else_is_refused(registry: Registry, spec: object) -> None:
    assert config_error(registry, "sink", spec) == (
        "sink: expected a name, a (name, options) pair or an object that keeps "
        f"tisslm.contracts.Sink, got {spec!r}"
    )


def test_an_object_of_another_kind_and_a_class_are_refused(registry: Registry) -> None:
    for spec in (registry.build("tokenizer", "words"), registry.get("sink", "plain")):
        message = config_error(registry, "sink", spec)
        assert message.startswith("sink: expected a name, a (name, options) pair or an object")


def test_an_unknown_name_is_the_registrys_error(registry: Registry) -> None:
    with pytest.raises(PluginError, match=r"unknown sink 'plane'.* Did you mean 'plain'\?"):
        registry.build("sink", "plane")


def test_an_option_that_the_part_does_not_take_lists_those_that_it_takes(
    registry: Registry,
) -> None:
    assert config_error(registry, "sink", ("ruler", {"units": "in"}), 1) == (
        "sink 'ruler' has no option 'units'. Options: max_steps, unit, fine. Did you mean 'unit'?"
    )
    assert config_error(registry, "sink", ("plain", {"zzz": 1})) == (
        "sink 'plain' has no option 'zzz'. Options: none"
    )


def test_what_the_run_hands_over_is_no_option(registry: Registry) -> None:
    assert config_error(registry, "sink", ("ruler", {"first": 2}), 1).startswith(
        "sink 'ruler' has no option 'first'. Options: max_steps"
    )


def test_an_option_without_default_must_be_given(registry: Registry) -> None:
    assert config_error(registry, "sink", "ruler", 1) == (
        "sink 'ruler' needs a value for 'max_steps', which was not given. "
        "Options: max_steps, unit, fine"
    )


def test_the_runs_value_is_filled_in_when_it_is_left_out(registry: Registry) -> None:
    defaults = {"max_steps": 100, "vocab_size": 5}
    assert registry.build("sink", "ruler", 1, defaults=defaults).max_steps == 100
    given = registry.build("sink", ("ruler", {"max_steps": 7}), 1, defaults=defaults)
    assert given.max_steps == 7
    assert registry.build("sink", "plain", defaults=defaults) is not None
    assert defaults == {"max_steps": 100, "vocab_size": 5}


def test_a_part_that_takes_any_option_gets_them_but_no_default_that_it_does_not_name(
    registry: Registry,
) -> None:
    options = {"size": 2, "colour": "red"}
    slate = registry.build(
        "sink", ("slate", options), 1, 2, defaults={"max_steps": 9, "chalk": "x"}
    )
    assert (slate.given, slate.size, slate.chalk) == ((1, 2), 2, "x")
    assert slate.known == {"colour": "red"}
    assert config_error(registry, "sink", "slate") == (
        "sink 'slate' needs a value for 'size', which was not given. Options: size, chalk"
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"max_steps": 1, "unit": 0}, "ValueError: unit is zero"),
        ({"max_steps": []}, "TypeError: int() argument must be"),
    ],
)
def test_a_value_that_the_part_chokes_on_is_an_error_that_names_it(
    registry: Registry, options: dict[str, object], reason: str
) -> None:
    message = config_error(registry, "sink", ("ruler", options), 1)
    assert message.startswith(
        f"sink 'ruler' (tisslm-desk 2.0) could not be built with options {options}: {reason}"
    )


def test_the_parts_own_error_is_left_alone(registry: Registry) -> None:
    with pytest.raises(ConfigError) as caught:
        registry.build("loss", ("focal", {"gamma": -1.0}))
    assert str(caught.value) == "loss focal: gamma: expected a finite number >= 0, got -1.0"


def test_a_class_method_is_checked_like_a_constructor(registry: Registry) -> None:
    trained = registry.build("tokenizer", ("trained", {"size": 4}), "text", via="from_text")
    assert (trained.text, trained.size) == ("text", 4)
    message = config_error(registry, "tokenizer", ("trained", {"siz": 4}), "text", via="from_text")
    assert message == "tokenizer 'trained' has no option 'siz'. Options: size. Did you mean 'size'?"


def test_the_contracts_from_text_takes_the_constructors_options(registry: Registry) -> None:
    words = registry.build("tokenizer", ("words", {"lower": True}), "text", via="from_text")
    assert words.lower
    message = config_error(
        registry, "tokenizer", ("words", {"lowered": 1}), "text", via="from_text"
    )
    assert message == (
        "tokenizer 'words' has no option 'lowered'. Options: lower. Did you mean 'lower'?"
    )


def test_built_in_options_are_known_by_their_names(registry: Registry) -> None:
    assert config_error(registry, "optimizer", ("adamw", {"betas": 1}), None, 1e-3) == (
        "optimizer 'adamw' has no option 'betas'. Options: beta1, beta2, eps, weight_decay. "
        "Did you mean 'beta2'?"
    )
    assert config_error(registry, "scheduler", "cosine", None) == (
        "scheduler 'cosine' needs a value for 'max_steps', which was not given. "
        "Options: max_steps, warmup_steps, min_lr, min_lr_ratio"
    )

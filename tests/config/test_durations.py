"""Durations with units: what is read, what is refused, and which source counts."""

from __future__ import annotations

from typing import Any

import pytest

from tisslm.config import ConfigNote, RunConfig
from tisslm.config.durations import KEYS, DurationsConfig, Span, parse_span
from tisslm.errors import ConfigError


def load(*settings: str) -> RunConfig:
    return RunConfig.load(None, settings, {})


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("2ep", Span(2.0, "ep")),
        ("0.5 ep", Span(0.5, "ep")),
        ("1e9tok", Span(1e9, "tok")),
        (".5ep", Span(0.5, "ep")),
        ("10%", Span(10.0, "%")),
        ("500ba", Span(500.0, "ba")),
    ],
)
def test_a_number_with_a_unit_is_read(text: str, span: Span) -> None:
    assert parse_span("save_every", text) == span


UNITS = "ep (epochs), tok (tokens), % (of the run), ba (steps)"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "training.save_every=3weeks",
            f"training.save_every: expected a number of steps, or one with a unit of {UNITS}, got "
            '"3weeks"',
        ),
        (
            "training.max_steps=10%",
            "training.max_steps: expected epochs, tokens or steps, since shares are of it, got "
            '"10%"',
        ),
        (
            "training.save_every=0.3ba",
            'training.save_every: expected a whole number of steps, got "0.3ba"',
        ),
        ("training.max_steps=0ep", 'training.max_steps: expected a duration above 0, got "0ep"'),
        (
            "training.sample_every=1e999tok",
            'training.sample_every: expected a duration above 0, got "1e999tok"',
        ),
        (
            "scheduler.warmup_steps=101%",
            'scheduler.warmup_steps: expected at most 100%, which is the run, got "101%"',
        ),
        (
            "training.max_steps=soon",
            'training.max_steps: expected an integer >= 1, or -1 for no limit, got "soon"',
        ),
        (
            "durations.max_steps=2",
            'durations.max_steps: expected a number with a unit, such as "2ep", got 2',
        ),
        ("durations.epochs=2ep", "durations.epochs: unknown key; did you mean training.epochs?"),
    ],
)
def test_each_mistake_is_a_sentence_that_names_its_source(setting: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(setting)
    assert str(refused.value) == f"{message} (set by --set {setting.partition('=')[0]})"


def test_what_was_said_waits_for_the_data() -> None:
    found = load("training.max_steps=2ep", "scheduler.warmup_steps=10%", "training.save_every=7")
    assert found.durations == DurationsConfig(max_steps="2ep", warmup_steps="10%")
    assert list(found.durations.spans()) == ["max_steps", "warmup_steps"]
    assert found.training.max_steps is None
    assert found.training.save_every == 7
    assert "warmup_steps" not in found.scheduler.options
    assert load().durations is None
    assert load('training.max_steps="500"').training.max_steps == 500


def test_what_is_recorded_is_a_configuration_and_a_stronger_number_counts() -> None:
    tables = load("training.max_steps=2ep").changed("training", max_steps=480).resolved()
    assert tables["training"]["max_steps"] == 480
    assert tables["durations"] == {"max_steps": "2ep"}
    again = RunConfig.from_mapping(tables)
    assert (again.training.max_steps, again.durations) == (480, DurationsConfig(max_steps="2ep"))


@pytest.mark.parametrize(
    ("setting", "steps", "durations"),
    [
        ("training.max_steps=100", 100, None),
        ("training.epochs=3", None, None),
        ("training.max_steps=1ep", None, "1ep"),
    ],
)
def test_a_stronger_source_takes_a_duration_back(
    tmp_path: Any, setting: str, steps: int | None, durations: str | None
) -> None:
    file = tmp_path / "run.toml"
    file.write_text('[data]\npath = "x.txt"\n[durations]\nmax_steps = "2ep"\n')
    with pytest.warns(ConfigNote, match="durations.max_steps = "):
        found = RunConfig.load(file, [setting], {})
    assert found.training.max_steps == steps
    said = None if found.durations is None else found.durations.max_steps
    assert said == durations


@pytest.mark.filterwarnings("ignore::tisslm.config.ConfigNote")
def test_another_scheduler_leaves_the_durations_of_the_first_out(tmp_path: Any) -> None:
    file = tmp_path / "run.toml"
    text = '[data]\npath = "x.txt"\n[durations]\nmax_steps = "2ep"\nwarmup_steps = "10%"\n'
    file.write_text(text + "[scheduler]\nwarmup_steps = 7\n")
    found = RunConfig.load(file, ["scheduler.name=step", "scheduler.step_size=1ep"], {})
    assert found.durations == DurationsConfig(max_steps="2ep", step_size="1ep")
    assert found.scheduler.options == {}


def test_every_key_takes_one() -> None:
    assert list(DurationsConfig.model_fields) == list(KEYS)

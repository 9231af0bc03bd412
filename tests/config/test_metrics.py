"""The table of metrics: each is described once, and what shows metrics has no table of its own."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from metric_lines import (
    averaged,
    evaluation,
    monitor_metrics,
    preferences,
    step_metrics,
    texts,
)

from tisslm.config import TrainingConfig
from tisslm.config.metric_types import FORMATS, Figure, Metric
from tisslm.config.metrics import BEST, FAMILIES, FIGURES, METRICS, RESERVED, resolve_mode
from tisslm.errors import ConfigError
from tisslm.tracking.metrics import value_text

PACKAGE = Path(__file__).parents[2] / "tisslm"

#: What computes metrics, the table itself, and the Trainer's two losses, which have a meaning.
COMPUTE = {"step_metrics.py", "tokens.py", "metrics.py", "processor.py", "sink_group.py"}


def test_every_metric_of_a_run_is_in_the_table():
    assert {
        *step_metrics(1, 1),
        *evaluation(1, 1),
        *texts(1, 1),
        *averaged(1, 1),
        *preferences(1, 1),
        "train/param_norm",
    } == METRICS.keys()
    groups = {name.partition("/")[0] for name in monitor_metrics(1, 1, 2)} - {"monitor"}
    assert groups | {"gradients"} == {family.group for family in FAMILIES}


def test_every_picture_has_metrics_and_the_best_are_those_with_a_direction():
    drawn = [metric.figure for metric in METRICS.values() if metric.figure]
    assert {figure.slug for figure in drawn} == FIGURES.keys()
    assert {name: resolve_mode(name, "auto") for name in BEST} == {
        "eval/loss": "min",
        "eval/perplexity": "min",
        "eval/bpb": "min",
        "eval/accuracy": "max",
        "eval/top5_accuracy": "max",
        "eval/recall_at_1": "max",
        "eval/recall_at_5": "max",
        "eval/recall_at_10": "max",
        "eval/accuracy_at_1": "max",
        "eval/accuracy_at_5": "max",
        "eval/accuracy_at_10": "max",
        "eval/mrr_at_10": "max",
        "eval/ndcg_at_10": "max",
        "eval/triplet_accuracy": "max",
        "eval/spearman": "max",
        "eval/pearson": "max",
        "eval/ema_loss": "min",
        "eval/ema_accuracy": "max",
        "eval/ema_ndcg_at_10": "max",
        "eval/ema_spearman": "max",
        "eval/rewards/accuracies": "max",
        "eval/rewards/margins": "max",
        "train/loss": "min",
    }
    assert {"train", "eval", "memory", "grad_norm", "activation", "sample"} <= RESERVED


def test_directions_and_words_stand_nowhere_else():
    """A literal table with names of metrics as keys would be a second one."""
    second = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in PACKAGE.rglob("*.py")
        if path.name not in COMPUTE and "testing" not in path.parts
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Dict | ast.Set)
        for names in [node.keys if isinstance(node, ast.Dict) else node.elts]
        if sum(isinstance(n, ast.Constant) and n.value in METRICS for n in names) > 1
    ]
    assert second == []


def test_every_format_is_written():
    for name in FORMATS:
        text = value_text(Metric("a/b", "b", format=f"{{:{name}}}"), 1234.5)
        assert text
        assert "{" not in text


GOOD = {"name": "contrastive/temperature", "label": "temperature"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"name": "temperature"},
            "metric 'temperature': name: expected a group and a name such as "
            '"contrastive/temperature", got this; rename it',
        ),
        ({"name": 3}, "metric 3: name: expected a string of at most 200 characters, got 3"),
        (
            {"label": " "},
            "metric 'contrastive/temperature': label: expected words for people, got none; give "
            "some",
        ),
        (
            {"better": "more"},
            'metric \'contrastive/temperature\': better: expected "min", "max" or "" (neither), '
            "got 'more'",
        ),
        (
            {"format": "{:.3z}"},
            "metric 'contrastive/temperature': format: expected a template with one number, such "
            "as \"{:.3f}\", got '{:.3z}'",
        ),
        (
            {"format": "{:999999999.3f}"},
            "metric 'contrastive/temperature': format: expected a template with one number, such "
            "as \"{:.3f}\", got '{:999999999.3f}'",
        ),
        (
            {"line": "{0.__class__}"},
            "metric 'contrastive/temperature': line: expected a template with one number, such as "
            "\"{:.3f}\", got '{0.__class__}'",
        ),
        (
            {"figure": "temperature"},
            "metric 'contrastive/temperature': figure: expected a Figure, got 'temperature'",
        ),
        ({"place": True}, "metric 'contrastive/temperature': place: expected an integer, got True"),
    ],
)
def test_a_bad_declaration_is_one_sentence(change, message):
    with pytest.raises(ConfigError) as caught:
        Metric(**(GOOD | change))
    assert str(caught.value) == message


def test_a_bad_figure_is_one_sentence():
    with pytest.raises(ConfigError) as caught:
        Figure("A B", "title")
    assert str(caught.value) == (
        "figure 'A B': slug: expected lower-case words with hyphens, such as \"temperature\"; "
        "choose another"
    )


@pytest.mark.parametrize("name", ["eval/lots", "grad_norm/head", "sample/0", "contrastive", "lots"])
def test_the_trainers_own_groups_are_closed(name):
    with pytest.raises(ConfigError, match=r'^training\.best_metric: expected "eval/loss", '):
        TrainingConfig(best_metric=name)
    assert TrainingConfig(best_metric="contrastive/heat").best_metric == "contrastive/heat"


def test_a_declaration_is_read_as_it_was_written():
    metric = Metric(**GOOD, better="min", figure=Figure("temperature", "T", log=True))
    assert Metric.of_plain(metric.plain()) == metric
    for odd in (3, {"name": "a/b"}, {"mine": 1}, metric.plain() | {"figure": {"odd": 1}}):
        with pytest.raises(ConfigError):
            Metric.of_plain(odd)

"""Every metric has a place; runs are compared over steps, tokens and hours."""

from __future__ import annotations

import numpy as np
import pytest
from metric_lines import evaluation, monitor_metrics, rows, step_metrics, write_run

from tisslm.tracking.report import catalogue
from tisslm.tracking.report.reading import Run, read_run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return read_run(write_run(tmp_path_factory.mktemp("runs") / "whole"))


def shown(run: Run) -> set[int]:
    """Return the identities of the arrays that figures of a run show as they are."""
    charts = [*catalogue.curves(run), *catalogue.others(run)[0]]
    found = {id(line.series) for chart in charts for line in chart.lines}
    return found | {id(series) for grid in catalogue.grids(run) for series in grid.series}


def test_every_metric_of_the_agreed_names_has_its_figure(run):
    assert catalogue.others(run) == ([], [])
    said = {"train/perplexity", "train/epoch", "train/num_input_tokens_seen"}
    quantiles = {name for name in run.scalars if name.startswith("weight/")}
    names = {*step_metrics(1, 1), *evaluation(1, 1), *monitor_metrics(1, 1, 2)}
    numbers = {name for name in names if not name.startswith("weights/")}
    assert numbers == set(run.scalars)
    seen = shown(run)
    assert {n for n, s in run.scalars.items() if id(s) not in seen} == said | quantiles


def test_a_metric_that_nobody_knows_has_a_figure_of_its_own(tmp_path):
    found = read_run(write_run(tmp_path, [{"step": 1, "mine/x": 1.0, "grad_norm": 2.0}]))
    charts, left_out = catalogue.others(found)
    assert [chart.title for chart in charts] == ["mine/x", "grad_norm"]
    assert left_out == []
    many = {f"mine/{i}": 1.0 for i in range(catalogue.MOST_OTHERS + 3)}
    charts, left_out = catalogue.others(read_run(write_run(tmp_path, [{"step": 1, **many}])))
    assert (len(charts), left_out) == (catalogue.MOST_OTHERS, list(many)[-3:])


def test_the_loss_is_shown_raw_smoothed_and_on_held_out_text(run):
    (chart,) = (chart for chart in catalogue.curves(run) if chart.slug == "loss")
    raw, smooth, held_out = chart.lines
    assert (raw.style, smooth.style, held_out.style) == ("faint", "solid", "points")
    assert raw.series is run.scalars["train/loss"]
    assert np.ptp(np.diff(smooth.series.y)) < np.ptp(np.diff(raw.series.y))
    assert held_out.series.x.tolist() == [20, 40, 60]
    assert "halves every 3 steps" in chart.about


def test_the_level_of_clipping_is_the_setting(run, tmp_path):
    (chart,) = (chart for chart in catalogue.curves(run) if chart.slug == "grad-norm")
    assert chart.level == 1.0
    odd = write_run(tmp_path, rows(5), config='[training]\nmax_grad_norm = "one"\n')
    (chart,) = (c for c in catalogue.curves(read_run(odd)) if c.slug == "grad-norm")
    assert chart.level is None


def test_heat_maps_have_the_rows_of_the_model_in_its_order(run):
    found = {grid.slug: grid for grid in catalogue.grids(run)}
    assert len(found) == 11
    assert found["grad-norms"].rows[0] == "embedding.token.weight"
    assert found["grad-norms"].rows[-1] == "head.norm.weight"
    attention = ("blocks.0.attention", "blocks.1.attention")
    assert found["attention-entropy"].rows == found["attention-entropy-min"].rows == attention
    entropy = run.scalars["attention/blocks.1.attention/entropy"]
    assert found["attention-entropy"].series[1] is entropy


def test_a_run_without_metrics_has_no_figures(tmp_path):
    found = read_run(write_run(tmp_path, []))
    assert (catalogue.curves(found), catalogue.grids(found)) == ([], [])
    assert catalogue.comparison([found, found]) == []


def compared(tmp_path) -> dict[str, catalogue.Chart]:
    """Compare a run with one of twice its tokens a step and half its speed."""
    first = [{"step": s, "eval/loss": 9.0 - s, "train/loss": 8.0 - s,
              "train/num_input_tokens_seen": 3600 * s, "train/tokens_per_second": 10.0}
             for s in (1, 2, 4)]  # fmt: skip
    second = [{**row, "train/num_input_tokens_seen": 7200 * row["step"],
               "train/tokens_per_second": 5.0} for row in first]  # fmt: skip
    runs = [
        read_run(write_run(tmp_path / name, lines))
        for name, lines in (("a", first), ("b", second), ("c", [{"step": 1, "train/loss": 1.0}]))
    ]
    return {chart.slug: chart for chart in catalogue.comparison(runs)}


def test_losses_are_compared_over_steps_tokens_and_hours(tmp_path):
    found = compared(tmp_path)
    steps, tokens, hours = (found[f"validation-loss{end}"] for end in ("", "-tokens", "-hours"))
    assert [line.label for line in steps.lines] == ["a", "b"]
    assert [line.color for line in steps.lines] == [0, 1]
    assert steps.lines[0].series.x.tolist() == steps.lines[1].series.x.tolist() == [1, 2, 4]
    assert tokens.lines[1].series.x.tolist() == [7200, 14400, 28800]
    np.testing.assert_allclose(hours.lines[0].series.x, [0.1, 0.2, 0.4])
    np.testing.assert_allclose(hours.lines[1].series.x, [0.4, 0.8, 1.6])
    assert tokens.lines[0].series.y.tolist() == [8.0, 7.0, 5.0]
    assert (tokens.x_label, hours.x_label) == ("input tokens", "hours")
    assert [line.label for line in found["training-loss"].lines] == ["a", "b", "c"]


def test_colours_of_runs_do_not_move_where_one_lacks_a_metric(tmp_path):
    lines = [{"step": 1, "eval/loss": 1.0}]
    a, b = (write_run(tmp_path / n, found) for n, found in (("a", [{"step": 1}]), ("b", lines)))
    charts = catalogue.comparison([read_run(a), read_run(b)])
    assert [line.color for line in charts[0].lines] == [1]

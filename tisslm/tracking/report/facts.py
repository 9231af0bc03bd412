"""What a report says in words and tables: the summary, samples, configuration, environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tisslm.config.metric_types import Metric
from tisslm.config.metrics import METRICS
from tisslm.system.quantities import duration_text
from tisslm.tracking.report.markup import Markup, join, table, tag
from tisslm.tracking.report.numbers import number_text
from tisslm.tracking.report.reading import Run
from tisslm.tracking.report.series import Series

__all__ = ["comparison_table", "flat", "problem_box", "samples", "settings_table", "summary_cards"]

_SAMPLES = 8  # prompts
_LOOKS = 12  # texts of a prompt

#: A result: its words, its value, and what is beneath it.
_Fact = tuple[str, str, str]


def summary_cards(run: Run) -> Markup:
    """Return the results of a run as a list of cards."""
    cards = (
        tag("div", tag("dt", name), tag("dd", value, tag("small", note) if note else ""))
        for name, value, note in _facts(run)
    )
    return tag("dl", *cards, class_="cards")


def _facts(run: Run) -> list[_Fact]:
    """Return what is known of a run's results; what is not known is left out."""
    found: list[_Fact] = [("state", run.state, ""), _step_fact(run)]
    train, held_out = (run.scalars.get(f"{kind}/loss") for kind in ("train", "eval"))
    if train and train.finite:
        found.append(("training loss", number_text(float(train.finite.y[-1])), "the last"))
    if held_out and (good := held_out.finite):
        best = int(good.y.argmin())
        found.append(
            ("validation loss", number_text(float(good.y[best])), f"least, step {good.x[best]:.0f}")
        )
    found += [
        fact
        for metric in (METRICS["eval/accuracy"], METRICS["eval/bpb"])
        if (fact := _best_fact(metric, run.scalars.get(metric.name)))
    ]
    return [*found, *_size_facts(run)]


def _step_fact(run: Run) -> _Fact:
    asked = run.setting("training", "max_steps")
    return ("steps", f"{run.last_step:,}", f"of {asked:,}" if isinstance(asked, int) else "")


def _best_fact(metric: Metric, series: Series | None) -> _Fact | None:
    if not series or not (good := series.finite):
        return None
    best = int(good.y.argmin() if metric.better == "min" else good.y.argmax())
    return (metric.screen_label, number_text(float(good.y[best])), f"best, step {good.x[best]:.0f}")


def _size_facts(run: Run) -> list[_Fact]:
    """Return tokens, speed, time, memory and parameters."""
    found: list[_Fact] = []
    tokens = _last(run, "train/num_input_tokens_seen")
    if tokens is not None:
        found.append(("input tokens", number_text(tokens), ""))
    rate = _number(run.summary.get("tokens_per_second"))
    if rate is not None:
        found.append(("tokens per second", number_text(rate), "of all updates"))
    seconds = _number(run.summary.get("seconds"))
    if seconds is not None:
        found.append(("time", duration_text(seconds), "of the last start"))
    peak = _last(run, "memory/peak_rss_gib")
    if peak is not None:
        found.append(("peak memory", f"{number_text(peak, 3)} GiB", _expected_memory(run)))
    count = _number(run.summary.get("parameters"))
    if count is not None:
        found.append(("parameters", number_text(count), ""))
    return found


def _expected_memory(run: Run) -> str:
    """Say what the peak is to be compared with, "" of a run that does not tell."""
    planned, imports = _last(run, "memory/planned_gib"), _last(run, "memory/imports_gib")
    if planned is None:
        return ""
    if imports is None:
        return f"planned {number_text(planned, 3)} GiB beyond the interpreter and its libraries"
    return (
        f"expected {number_text(planned + imports, 3)} GiB: planned {number_text(planned, 3)}, "
        f"interpreter and libraries {number_text(imports, 3)}"
    )


def _last(run: Run, name: str) -> float | None:
    series = run.scalars.get(name)
    return float(series.finite.y[-1]) if series and series.finite else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e300 else None


# --------------------------------------------------------------------------- texts


def problem_box(runs: Sequence[Run], notes: Sequence[str] = ()) -> Markup:
    """Return what is wrong with the files, and what was left out; nothing if all is well."""
    sentences = [sentence for run in runs for sentence in run.problems.sentences]
    if not sentences and not notes:
        return Markup("")
    items = (tag("li", sentence) for sentence in [*sentences, *notes])
    heading = tag("h2", "Left out of this report", id="problems")
    return tag("div", heading, tag("ul", *items), class_="problems", role="note")


def samples(run: Run, level: int = 3) -> Markup:
    """Return what the model wrote through time, by prompt; the last texts are shown.

    Parameters
    ----------
    run : Run
    level : int
        The level of the prompts' headings.
    """
    blocks = []
    names = [name for name in run.metrics.texts if run.metrics.texts[name]]
    for name in names[:_SAMPLES]:
        looks = _spread(run.metrics.texts[name])
        texts = [
            join(
                [
                    tag(f"h{level + 1}", f"step {step}", class_="step"),
                    tag("pre", text or "(nothing)"),
                ]
            )
            for step, text in looks
        ]
        earlier = tag("details", tag("summary", f"Earlier, {len(texts) - 1}"), *texts[:-1])
        parts = [tag(f"h{level}", name), texts[-1], earlier if len(texts) > 1 else ""]
        blocks.append(tag("div", *parts, class_="sample"))
    if len(names) > _SAMPLES:
        blocks.append(tag("p", f"and {len(names) - _SAMPLES} more prompts", class_="about"))
    return join(blocks)


def _spread(looks: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """Return at most so many texts, evenly spread, the first and the last among them."""
    n = len(looks)
    if n <= _LOOKS:
        return list(looks)
    return [looks[round(i * (n - 1) / (_LOOKS - 1))] for i in range(_LOOKS)]


# --------------------------------------------------------------------------- settings


def flat(tables: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """Return nested tables as one, with dotted keys and values in words."""
    found: dict[str, str] = {}
    for key, value in tables.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{before}{key}.")
        else:
            found[f"{before}{key}"] = _words(value)
    return found


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_words, value)) or "none"
    return '""' if value == "" else str(value)


def settings_table(caption: str, tables: Mapping[str, Any]) -> Markup:
    """Return settings of one run as a table."""
    if not tables:
        return tag("p", f"{caption}: not recorded.", class_="about")
    return table(caption, ("name", "value"), flat(tables).items())


def comparison_table(
    caption: str, runs: Sequence[Run], tables: Sequence[Mapping[str, Any]]
) -> Markup:
    """Return the settings in which runs differ, the others in a part that opens."""
    columns = [flat(found) for found in tables]
    names = list(dict.fromkeys(name for column in columns for name in column))
    head = ["name", *map(run_name, range(len(runs)), runs)]
    rows = [(name, [column.get(name, "-") for column in columns]) for name in names]
    different = [[name, *values] for name, values in rows if len(set(values)) > 1]
    same = [[name, values[0]] for name, values in rows if len(set(values)) == 1]
    shown = table(f"{caption}: what differs", head, different)
    if not different:
        shown = tag("p", f"{caption}: no difference.", class_="about")
    rest = table(f"{caption}: what is the same", ("name", "value"), same) if same else Markup("")
    summary = tag("summary", f"{len(same)} that are the same")
    return join([shown, tag("details", summary, rest) if same else ""])


def run_name(number: int, run: Run) -> Markup:
    """Return a run's label beside its colour."""
    return join([tag("span", class_=f"key k{number % 8}", aria_hidden="true"), run.label])


def results_table(runs: Sequence[Run]) -> Markup:
    """Return the results of runs side by side."""
    facts = [{name: (value, note) for name, value, note in _facts(run)} for run in runs]
    names = list(dict.fromkeys(name for found in facts for name in found))
    rows = []
    for name in names:
        cells = [found.get(name, ("-", "")) for found in facts]
        rows.append([name, *(f"{value} ({note})" if note else value for value, note in cells)])
    return table("Results", ["", *map(run_name, range(len(runs)), runs)], rows)

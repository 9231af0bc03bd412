"""The page of a report: one file of HTML that needs nothing else.

A policy in its head lets the browser load nothing and run nothing but the page's own script, so a
name or a sample that looks like markup cannot act, and opening a report asks no server.

What does not live here: what is in the figures (``catalogue``, ``figures``) and tables (``facts``).

References
----------
Content Security Policy Level 3, https://www.w3.org/TR/CSP3/
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from tisslm.registry.discovery import tisslm_version
from tisslm.tracking.report import catalogue, facts
from tisslm.tracking.report.figures import Figures
from tisslm.tracking.report.histograms import History, moved
from tisslm.tracking.report.markup import Markup, data_block, join, tag
from tisslm.tracking.report.reading import Run
from tisslm.tracking.report.theme import style_sheet

__all__ = ["MARK", "comparison_page", "run_page"]

#: What the first bytes of every report have: how a file is known that may be written over.
MARK = "<!doctype html><!-- a report of TissLM -->"

#: Characters of histograms that a page holds; those of the others are left out.
HISTOGRAMS = 1_000_000

Sections = dict[str, list[Markup]]

_HINT = tag(
    "p",
    "To read values, point at a figure, or choose it by Tab and use the arrow keys (with Shift, "
    "ten at a time).",
    class_="about hint",
)


def run_page(run: Run) -> str:
    """Return the report of one run, as HTML; must be called within ``canvas.drawing``."""
    figures = Figures()
    notes: list[str] = []
    sections: Sections = {}
    for chart in catalogue.curves(run):
        sections.setdefault(chart.section, []).append(figures.chart(chart))
    if maps := [figures.grid(grid) for grid in catalogue.grids(run)]:
        sections["Layers"] = maps
    if histories := _histograms(run, figures, notes):
        sections["Histograms"] = histories
    charts, left_out = catalogue.others(run)
    if charts:
        found = sections.setdefault("Other metrics", [])
        found += [figures.chart(chart) for chart in charts]
    if left_out:
        notes.append(f"{len(left_out)} other metrics have no figure, such as {left_out[0]}")
    parts = {name: tag("div", *found, class_="figures") for name, found in sections.items()}
    if run.metrics.texts:
        parts["Samples"] = facts.samples(run)
    parts["Configuration"] = facts.settings_table("Configuration", run.config)
    parts["Environment"] = facts.settings_table("Environment", run.environment)
    about = f"{run.path}: {run.state}"
    first = join([facts.summary_cards(run), facts.problem_box([run], notes)])
    return _page(run.label, about, first, parts, figures.data)


def comparison_page(runs: Sequence[Run]) -> str:
    """Return the comparison of runs, as HTML; must be called within ``canvas.drawing``."""
    figures = Figures()
    sections: Sections = {}
    for chart in catalogue.comparison(runs):
        sections.setdefault(chart.section, []).append(figures.chart(chart))
    parts = {name: tag("div", *found, class_="figures") for name, found in sections.items()}
    written = [
        join([tag("h3", facts.run_name(number, run)), facts.samples(run, 4)])
        for number, run in enumerate(runs)
        if run.metrics.texts
    ]
    if written:
        parts["Samples"] = join(written)
    configs, environments = [run.config for run in runs], [run.environment for run in runs]
    parts["Configuration"] = facts.comparison_table("Configuration", runs, configs)
    parts["Environment"] = facts.comparison_table("Environment", runs, environments)
    first = join([facts.results_table(runs), facts.problem_box(runs)])
    title = f"{len(runs)} runs: {', '.join(run.label for run in runs)}"
    return _page(
        title, "Results, curves, samples and settings side by side.", first, parts, figures.data
    )


def _histograms(run: Run, figures: Figures, notes: list[str]) -> list[Markup]:
    """Return histograms in the model's order: of those arrays that moved most, within a limit."""
    histories = histories_of(run)
    most = sorted(range(len(histories)), key=lambda i: -moved(histories[i].looks))
    drawn: dict[int, Markup] = {}
    room = HISTOGRAMS
    for i in most:
        found = figures.history(i, histories[i])
        room -= len(found)
        if room < 0:
            notes.append(
                f"{len(histories) - len(drawn)} of {len(histories)} arrays have no histogram here; "
                "those that moved most have"
            )
            break
        drawn[i] = found
    return [drawn[i] for i in sorted(drawn)]


def histories_of(run: Run) -> list[History]:
    """Return the histograms of a run, with the quantiles of the same parameter."""
    found = []
    for name, looks in run.metrics.histograms.items():
        parameter = name.partition("/")[2]
        quantiles = tuple(
            (key.rpartition("/")[2], series)
            for key, series in run.scalars.items()
            if name.startswith("weights/") and key.startswith(f"weight/{parameter}/p")
        )
        if looks:
            found.append(History(name, looks, quantiles))
    return found


# --------------------------------------------------------------------------- the page around


def _page(
    title: str, about: str, first: Markup, parts: Mapping[str, Markup], data: Mapping[str, Any]
) -> str:
    names = ["Results", *parts]
    links = (tag("li", tag("a", name, href=f"#{_slug(name)}")) for name in names)
    body = [
        tag("a", "Skip to the results", href="#results", class_="skip"),
        tag("header", tag("h1", title), tag("p", about, class_="about"), _HINT),
        tag("nav", tag("ul", *links), aria_label="Sections"),
        tag("main", _section("Results", first), *(_section(n, p) for n, p in parts.items())),
        tag("footer", tag("p", f"Written by TissLM {tisslm_version()}. No part is loaded from a "
                               "server.")),
        data_block("data", dict(data)),
        tag("script", _script()),
    ]  # fmt: skip
    root = tag("html", tag("head", *_head(title)), tag("body", *body), lang="en")
    return f"{MARK}\n{root}\n"


def _head(title: str) -> list[Markup]:
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src '{_digest(_script())}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    return [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"{title} - TissLM"),
        tag("link", rel="icon", href="data:,"),
        tag("style", Markup(style_sheet() + _resource("page.css"))),
    ]


def _section(name: str, content: Markup) -> Markup:
    slug = _slug(name)
    heading = tag("h2", name, id=f"{slug}-heading")
    return tag("section", heading, content, id=slug, aria_labelledby=f"{slug}-heading")


def _slug(name: str) -> str:
    return name.lower().replace(" ", "-")


def _script() -> Markup:
    return Markup(_resource("page.js"))


def _resource(name: str) -> str:
    return resources.files("tisslm.tracking.report").joinpath(name).read_text("utf-8")


def _digest(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"

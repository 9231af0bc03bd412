"""The page: one file, nothing from elsewhere, nothing that acts, within its size."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from collections import Counter
from html.parser import HTMLParser

import pytest
from metric_lines import evaluation, line, monitor_metrics, rows, step_metrics, write_run

from tisslm.errors import ConfigError
from tisslm.tracking.report import page
from tisslm.tracking.report.canvas import drawing
from tisslm.tracking.report.page import comparison_page, run_page
from tisslm.tracking.report.reading import Run, read_run
from tisslm.tracking.report.writing import write_report

VOID = {"meta", "link", "br", "img"}


class Elements(HTMLParser):
    """Collect elements, and check that each is closed where it was opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    def of(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag == name]


def page_of(run: Run) -> str:
    with drawing():
        return run_page(run)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[str, Elements]:
    text = page_of(read_run(write_run(tmp_path_factory.mktemp("runs") / "whole", rows(60, 1))))
    return text, Elements(text)


def test_every_section_is_there_and_linked(whole):
    _, found = whole
    sections = [attributes["id"] for attributes in found.of("section")]
    assert sections == [
        "results", "loss", "optimization", "speed", "memory", "layers", "histograms", "samples",
        "configuration", "environment",
    ]  # fmt: skip
    links = [attributes["href"] for attributes in found.of("a")]
    assert links == ["#results", *(f"#{name}" for name in sections)]
    words = "".join(found.words)
    for text in (
        "completed", "2m10s", "817.2k", "least, step 60",
        "expected 0.225 GiB: planned 0.125, interpreter and libraries 0.1",
        "After 60 steps, <b>it</b> & I", "training.max_grad_norm", "threads.count",
    ):  # fmt: skip
        assert text in words


def test_ids_are_unique_and_labels_are_there(whole):
    _, found = whole
    ids = Counter(attributes["id"] for _, attributes in found.found if "id" in attributes)
    assert [name for name, n in ids.items() if n > 1] == []
    for attributes in found.of("svg"):
        assert attributes["role"] == "img"
        assert len(attributes["aria-label"] or "") > 10
    levels = [int(tag[1]) for tag, _ in found.found if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_every_figure_can_be_chosen_and_has_its_values(whole):
    text, found = whole
    data = json.loads(re.search(r'id="data">(.*?)</script>', text)[1])
    holders = [a for a in found.of("div") if a.get("class") == "drawing" and "data-figure" in a]
    assert sorted(str(a["data-figure"]) for a in holders) == sorted(data)
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in holders)
    assert len(data) > 25
    loss = data["loss"]
    assert len(loss["boxes"]) == 2
    assert loss["lines"][2]["x"] == [20, 40, 60]
    heat = data["grad-norms"]
    assert [len(row) for row in heat["values"]] == [len(heat["steps"])] * len(heat["rows"])


def test_nothing_comes_from_elsewhere(whole):
    text, found = whole
    for _, attributes in found.found:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), value
    assert not re.search(r"@import|url\((?!#)|https?://(?!www\.w3\.org/)", text)


def test_only_the_pages_own_script_may_run(whole):
    text, found = whole
    policy = next(a["content"] for a in found.of("meta") if "http-equiv" in a)
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert policy.startswith("default-src 'none';")
    assert f"script-src 'sha256-{digest}'" in policy
    assert not [key for _, attributes in found.found for key in attributes if key.startswith("on")]


def test_names_and_samples_that_look_like_markup_stay_text(tmp_path):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    run = read_run(
        write_run(
            tmp_path / "run",
            [
                {"step": 1, evil: 1.0, f"activation/{evil}/std": 1.0, f"monitor/{evil}_ms": 1.0},
                {"step": 2, evil: 2.0, "sample/0": {"text": evil}},
                {"step": 3, f"weights/{evil}": monitor_metrics(1, 1, 1)[
                    "weights/head.norm.weight"]},
            ],
            summary={"status": evil},
            environment={evil: evil},
        ),
        label=evil,
    )  # fmt: skip
    text = page_of(run)
    found = Elements(text)
    assert len(found.of("script")) == 2
    assert found.of("img") == []
    assert "".join(found.words).count(evil) >= 8


def test_problems_are_at_the_top(tmp_path):
    folder = write_run(tmp_path / "run", [{"step": 1, "train/loss": 1.0}])
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("nothing\n")
    text = page_of(read_run(folder))
    assert text.index("metrics.jsonl, line 2: left out") < text.index('id="loss"')
    assert "Left out of this report" in text


def test_a_run_that_has_only_begun_has_a_page(tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "metrics.jsonl").touch()
    words = "".join(Elements(page_of(read_run(folder))).words)
    assert "not known" in words
    assert "Configuration: not recorded." in words


def test_the_histograms_of_what_moved_most_are_kept_within_the_limit(tmp_path, monkeypatch):
    weights = ("weights/blocks.0.mlp.up.weight", "weights/head.norm.weight", "weights/other")
    first = monitor_metrics(1, 1, 1)[weights[1]]
    last = {**first, "edges": [2 * edge for edge in first["edges"]]}
    found = [{"step": 1, **dict.fromkeys(weights, first)}]
    found.append({"step": 2, weights[0]: first, weights[1]: last, weights[2]: first})
    run = read_run(write_run(tmp_path / "run", found))
    assert page_of(run).count('id="figure-histogram-') == 3
    monkeypatch.setattr(page, "HISTOGRAMS", 12_000)
    text = page_of(run)
    assert text.count('id="figure-histogram-') == 1
    assert "Histograms of weights/head.norm.weight, steps 1 to 2." in text
    assert "2 of 3 arrays have no histogram here; those that moved most have" in text


def test_a_large_run_stays_below_3_mb(tmp_path):
    """Twelve blocks, histograms of 64 bins, forty metrics of plugins, long texts."""
    folder, steps, layers = tmp_path / "run", 40_000, 12
    write_run(folder, [])
    looks = [monitor_metrics(s, steps, layers, 64) for s in (1, 2, 3)]
    with (folder / "metrics.jsonl").open("w") as file:
        for number, step in enumerate(range(50, steps + 1, 50)):
            row = {"step": step, **step_metrics(step, steps)}
            row |= {f"mine/{i}": 1.0 * (step % (i + 2)) for i in range(50)}
            if step % 2500 == 0:
                row |= looks[number % 3] | evaluation(step, steps)
                row |= {f"sample/{i}": {"text": "word " * 1000} for i in range(12)}
            file.write(line(row))
    text = page_of(read_run(folder))
    assert 500_000 < len(text.encode()) < 3_000_000


def test_runs_are_compared(tmp_path):
    first = write_run(tmp_path / "a", rows(40, 1))
    second = write_run(
        tmp_path / "b", rows(60, 1), config="[training]\nmax_steps = 60\nlearning_rate = 0.5\n"
    )
    with drawing():
        text = comparison_page([read_run(first), read_run(second)])
    found = Elements(text)
    words = "".join(found.words)
    assert "2 runs: a, b" in words
    assert "Configuration: what differs" in words
    assert "training.learning_rate-0.5" in words  # the first has none
    assert "Environment: no difference." in words
    data = json.loads(re.search(r'id="data">(.*?)</script>', text)[1])
    for slug in ("validation-loss", "training-loss-tokens", "training-loss-hours", "memory"):
        assert [ln["label"] for ln in data[slug]["lines"]] == ["a", "b"]


def test_numbers_at_the_end_of_the_range_are_drawn(tmp_path):
    values = [1e308, -1e308, 1.7e308]
    found = [{"step": n, "train/loss": v, "odd/metric": v} for n, v in enumerate(values, 1)]
    near = {"edges": [-1.0, 0.0, 1.0], "counts": [1, 2], "total": 1e308, "squares": 1e308}
    far = {**near, "edges": [-1.7e308, 0.0, 1.7e308]}
    found += [{"step": n, "weights/near": near, "weights/far": far} for n in (4, 5)]
    folder = write_run(tmp_path / "run", found, summary={"status": "done", "seconds": 10**400})
    written = write_report([folder])
    assert written.page.stat().st_size
    assert any("edges" in problem for problem in written.problems)


@pytest.mark.parametrize("name", ["svg", "png"])
def test_figures_replace_figures_and_no_file_of_a_user(tmp_path, name):
    folder = write_run(tmp_path / "run")
    first = write_report([folder], formats=[name]).figures
    assert write_report([folder], formats=[name]).figures == first
    first[0].write_bytes(b"my own figure")
    with pytest.raises(ConfigError) as caught:
        write_report([folder], formats=[name])
    assert str(caught.value) == (
        f"{first[0]}: this file is no figure of TissLM and is left as it is; name another place by "
        "--output, or move it away"
    )
    assert first[0].read_bytes() == b"my own figure"

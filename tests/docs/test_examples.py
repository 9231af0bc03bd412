"""What the pages show works: Python runs, commands parse, configurations load, the plugin plugs."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import json
import re
import runpy
import shlex
import sys
import tomllib
import warnings
from pathlib import Path
from typing import Any

import pytest
import typer

import tisslm
from tisslm import Trainer, errors
from tisslm.cli.main import COMMANDS, _load
from tisslm.config import ConfigNote, RunConfig
from tisslm.registry import load_registry
from tisslm.testing import check_scheduler

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
API = ROOT / "docs" / "python-api.md"
MODELS = ROOT / "docs" / "models.md"
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("plugins/*/*.md")]

#: Long runs of the pages, and what the test makes of them.
SHORTER = {"max_steps=500": "max_steps=4"}


def blocks(page: Path, info: str) -> list[str]:
    """Return the fenced blocks with exactly this info string."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{info}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def run_page(page: Path, folder: Path) -> dict[str, Any]:
    """Run a page's ``python run`` blocks as one program, with the page's line numbers."""
    lines, inside = [], False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            inside = line == "```python run"
            line = ""
        lines.append(line if inside else "")
    program = "\n".join(lines)
    for long, short in SHORTER.items():
        program = program.replace(long, short)
    script = folder / f"{page.stem}.py"
    script.write_text(program, encoding="utf-8")
    with contextlib.chdir(folder):
        return runpy.run_path(str(script))


@pytest.fixture(scope="module")
def readme(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder in which the README's program ran, and its variables."""
    assert all(long in README.read_text(encoding="utf-8") for long in SHORTER)
    folder = tmp_path_factory.mktemp("readme")
    return folder, run_page(README, folder)


def first_cells(text: str) -> set[str]:
    """Return every name in backticks in the first cell of a table row."""
    cells = re.findall(r"^\| (`[^|]*`) \|", text, flags=re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def chapter(page: Path, heading: str) -> str:
    return page.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


# --------------------------------------------------------------------------- programs


def test_the_readmes_program_trains_and_writes(readme):
    _, variables = readme
    trainer = variables["trainer"]
    assert trainer.current_step == 4
    assert len(variables["new"]) == 100
    assert trainer.optimizer.weight_decay == 0.1


def test_the_program_of_the_python_page_runs(tmp_path):
    variables = run_page(API, tmp_path)
    assert variables["resumed"].current_step == variables["resumed"].max_steps == 20


def test_the_program_of_the_page_of_models_runs(tmp_path):
    trainer = run_page(MODELS, tmp_path)["trainer"]
    assert trainer.current_step == 4
    assert trainer.model.config.family == "qwen3"


def test_the_run_directory_is_as_documented(readme):
    folder, variables = readme
    text = chapter(ROOT / "docs" / "configuration.md", "The run directory")
    files, metrics, summary = re.split(r"Metrics, by name:|`summary.json`:", text)
    run = folder / variables["trainer"].run.path
    assert {path.name for path in run.iterdir()} == {
        name.split("/")[0] for name in first_cells(files) - {"metrics.csv"}
    }
    lines = (run / "metrics.jsonl").read_text().splitlines()
    written = {name for line in lines for name in json.loads(line)} - {"step"}
    # in fp16; with sample_every; in runs of half a second; at levels with products of our own
    others = {"train/loss_scale", "sample/<n>", "system/cpu_percent", "train/mfu"}
    others |= {"eval/ema_loss", "eval/ema_accuracy"}  # with [ema]
    assert first_cells(metrics) == written | others | {"grad_norm/<parameter>"}
    assert first_cells(summary) - {"eval_ema_loss"} == set(
        json.loads((run / "summary.json").read_text())
    )


def test_the_checkpoint_is_as_documented(readme):
    folder, variables = readme
    found = folder / variables["trainer"].run.checkpoints / "checkpoint-4"
    always = first_cells(chapter(API, "Checkpoints")) - {"ema.safetensors"}
    assert {path.name for path in found.iterdir()} == always


# --------------------------------------------------------------------------- signatures


def test_the_trainers_signature():
    (call,) = [block for block in blocks(API, "python") if block.startswith("Trainer(")]
    (shown,) = ast.parse(f"def {call.rstrip()}: ...").body
    arguments = shown.args
    defaults = [ast.literal_eval(node) for node in arguments.defaults]
    names = [argument.arg for argument in arguments.args]
    expected = dict.fromkeys(names[: len(names) - len(defaults)], inspect.Parameter.empty)
    expected |= dict(zip(names[-len(defaults) :], defaults, strict=True))
    for argument, node in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        expected[argument.arg] = ast.literal_eval(node)
    real = inspect.signature(Trainer).parameters.values()
    assert expected == {p.name: p.default for p in real}
    assert len(arguments.kwonlyargs) == sum(p.kind is p.KEYWORD_ONLY for p in real)


def test_the_trainers_methods_and_attributes(readme):
    _, variables = readme
    names = first_cells(chapter(API, "The Trainer"))
    methods = {name.partition("(")[0]: name for name in names if "(" in name}
    public = {n: m for n, m in inspect.getmembers(Trainer, inspect.isfunction) if n[0] != "_"}
    assert set(methods) == set(public)
    for name, shown in methods.items():
        arguments = list(inspect.signature(public[name]).parameters)[1:]
        assert shown == f"{name}({', '.join(arguments)})"
    for name in names - set(methods.values()):
        assert hasattr(variables["trainer"], name), name


def test_every_public_name_and_every_error_is_mentioned():
    public = chapter(API, "Public names")
    for name in tisslm.__all__:
        assert f"`{name}`" in public.replace("tisslm.", ""), name
    assert first_cells(chapter(API, "Errors")) == set(errors.__all__) - {"TissLMError"}


# --------------------------------------------------------------------------- commands


def commands(page: Path) -> list[list[str]]:
    """Return the command lines of a page, fenced or indented, without their comments."""
    text = page.read_text(encoding="utf-8")
    shown = "".join(re.findall(r"^```sh.*?\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE))
    shown += "".join(re.findall(r"^    ((?:tisslm|make|python) .*\n)", text, flags=re.MULTILINE))
    shown += "".join(f"{line}\n" for line in re.findall(r"`(tisslm [a-z][^`]*)`", text))
    shown = shown.replace("\\\n", " ")  # a command that goes on in the next line
    return [words for line in shown.splitlines() if (words := shlex.split(line, comments=True))]


TISSLM = [(p.name, words[1:]) for p in PAGES for words in commands(p) if words[0] == "tisslm"]


@pytest.mark.parametrize(
    ("page", "words"), TISSLM, ids=[f"{page}: {' '.join(words)}" for page, words in TISSLM]
)
def test_every_command_has_these_options(page, words):
    if "<name>" in words:
        words[words.index("<name>")] = "adamw"
    name, *arguments = words
    assert name in COMMANDS or name.startswith("-"), page
    if name not in COMMANDS or arguments == []:
        return
    command = _load(name)
    context = command.make_context(name, arguments)
    if name == "train":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConfigNote)
            RunConfig.load(None, context.params["settings"] or (), env={})


def test_every_command_is_shown_somewhere():
    assert set(COMMANDS) <= {words[0] for _, words in TISSLM}


BENCHMARKS = [
    (page.name, words[1:])
    for page in (*PAGES, ROOT / "benchmarks" / "README.md")
    for words in commands(page)
    if words[0] == "python" and words[1:2] and words[1].startswith("benchmarks/")
]


@pytest.mark.parametrize(
    ("page", "words"), BENCHMARKS, ids=[f"{page}: {' '.join(words)}" for page, words in BENCHMARKS]
)
def test_every_benchmark_takes_these_options(page, words, monkeypatch):
    """By the parser of the script itself, which is then not run."""
    script, *arguments = words
    assert (ROOT / script).is_file(), page
    monkeypatch.syspath_prepend(str((ROOT / script).parent))
    before = set(sys.modules)
    app = typer.Typer()
    app.command()(runpy.run_path(str(ROOT / script))["run"])
    for name in set(sys.modules) - before:  # the benchmarks' own modules have plain names
        if "." not in name and not name.startswith("_"):
            del sys.modules[name]
    typer.main.get_command(app).make_context(script, arguments)


@pytest.mark.parametrize(
    "page", [README, MODELS, ROOT / "docs" / "configuration.md"], ids=lambda p: p.name
)
def test_every_configuration_loads_and_names_parts_that_exist(page):
    registry = load_registry()
    found = blocks(page, "toml config")
    assert found
    for text in found:
        config = RunConfig.from_mapping(tomllib.loads(text))
        for kind in ("tokenizer", "optimizer", "scheduler", "loss"):
            registry.part(kind, getattr(config, kind).name)
        for kind, parts in (("sink", config.sinks), ("monitor", config.monitors)):
            for part in parts:
                registry.build(kind, part)


# --------------------------------------------------------------------------- the plugin


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """The README's package, laid out as pip would install it; its parsed pyproject.toml."""
    (text,) = [b for b in blocks(README, "toml") if "[project.entry-points.tisslm]" in b]
    (code,) = blocks(README, "python plugin")
    project = tomllib.loads(text)
    (module,) = project["tool"]["setuptools"]["py-modules"]
    name, version = project["project"]["name"], project["project"]["version"]
    (tmp_path / f"{module}.py").write_text(code, encoding="utf-8")
    info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    points = project["project"]["entry-points"]["tisslm"]
    lines = "".join(f"{point} = {target}\n" for point, target in points.items())
    (info / "entry_points.txt").write_text(f"[tisslm]\n{lines}")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield project
    sys.modules.pop(module, None)


def test_the_readmes_plugin_is_found_and_keeps_its_contract(plugin):
    name = plugin["project"]["name"]
    (part,) = [p for p in load_registry().entries("scheduler") if p.provider.distribution == name]
    assert check_scheduler(part.load()).n_assertions > 0
    (line,) = blocks(README, "sh plugin")
    settings = _load("train").make_context("train", shlex.split(line)[2:]).params["settings"]
    with pytest.warns(ConfigNote, match="starts \\[scheduler\\] afresh"):
        config = RunConfig.load(None, settings, env={})
    assert config.scheduler.name == part.entry.name
    assert set(config.scheduler.options) <= set(inspect.signature(part.load()).parameters)


def test_the_readmes_scheduler_does_what_it_says(plugin):
    registry = load_registry()
    model = tisslm.Transformer(
        tisslm.TransformerConfig(n_layer=1, n_head=1, n_embd=8, seq_len=4, vocab_size=3)
    )
    optimizer = registry.build("optimizer", "sgd", model.parameters, 0.5)
    scheduler = registry.build("scheduler", ("triangle", {"half": 10}), optimizer)
    rates = [scheduler.lr_at(step) for step in (0, 5, 10, 15, 20)]
    assert rates == pytest.approx([0.05, 0.275, 0.5, 0.275, 0.05], rel=1e-12)

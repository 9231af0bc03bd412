"""Every registered part keeps its contract, and so do the plugins in the tree."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from tisslm.errors import PluginError
from tisslm.registry import Part, Registry, hookspecs, load_registry
from tisslm.registry.discovery import LeftOut, PluginManager, Provider
from tisslm.registry.hookspecs import KINDS, Entry
from tisslm.testing import (
    ConformanceError,
    check_all,
    check_dataset,
    check_loss,
    check_optimizer,
    check_part,
    check_scheduler,
    check_tokenizer,
)
from tisslm.testing.every_part import CHECKS
from tisslm.tokenizers import ByteTokenizer

PARTS = [part for kind in KINDS for part in load_registry().entries(kind)]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{part.kind.name}-{part.entry.name}")
def test_the_part_keeps_its_contract(part):
    report = check_part(part)
    assert report.name == str(part)
    assert report.n_assertions > 10


def test_every_kind_has_a_check_and_a_part():
    assert set(CHECKS) == set(KINDS)
    assert {part.kind.name for part in PARTS} == set(KINDS)


def registry_with(*entries: Entry) -> Registry:
    """Build a registry of the given optimizers alone."""
    manager = PluginManager()
    manager.add_hookspecs(hookspecs)
    registry = Registry(manager)
    for entry in entries:
        registry._add(Part(KINDS["optimizer"], entry, Provider("mine", "1.0")))
    return registry


def test_all_are_checked_and_each_is_reported():
    registry = registry_with(
        Entry("one", "tisslm.optim.optimizers.sgd:SGD", "a part"),
        Entry("two", "tisslm.optim.optimizers.adam:Adam", "a part"),
    )
    reports = check_all(registry)
    assert [r.name for r in reports] == ["optimizer 'one' (mine 1.0)", "optimizer 'two' (mine 1.0)"]
    assert all(r.n_assertions > 100 for r in reports)


def test_every_failure_is_named_at_once():
    registry = registry_with(
        Entry("gone", "tisslm.nowhere:Nothing", "a part"),
        Entry("loss", "tisslm.optim.losses.focal:Focal", "a part"),
        Entry("right", "tisslm.optim.optimizers.sgd:SGD", "a part"),
    )
    with pytest.raises(ConformanceError) as caught:
        check_all(registry)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert "optimizer 'gone' (mine 1.0)" in lines[0]
    assert "could not be imported" in lines[0]
    assert "expected a subclass of tisslm.contracts.Optimizer" in lines[1]


def test_a_broken_plugin_is_a_failure():
    registry = registry_with(Entry("right", "tisslm.optim.optimizers.sgd:SGD", "a part"))
    broken = LeftOut(Provider("tisslm-foo", "1.0"), exception=ImportError("no libfoo"))
    disabled = LeftOut(Provider("tisslm-off", "1.0"))
    registry.left_out = (disabled,)
    assert len(check_all(registry)) == 1
    registry.left_out = (disabled, broken)
    with pytest.raises(ConformanceError, match=r"^tisslm-foo 1\.0 could not be imported"):
        check_all(registry)


def test_a_class_that_is_no_part_is_refused():
    part = Part(KINDS["loss"], Entry("x", dict, "a part"), Provider("mine", "1.0"))
    with pytest.raises(PluginError, match=r"expected a subclass of tisslm\.contracts\.Loss"):
        check_part(part)


# ----------------------------------------------------------------- plugins of the tree, the docs


def test_lion_keeps_the_contract(plugin):
    assert check_optimizer(plugin("tisslm_lion", "lion").Lion).n_assertions > 100


def test_z_loss_keeps_the_contract(plugin):
    loss = plugin("tisslm_extras", "z_loss").ZLoss
    assert check_loss(loss).n_assertions > 100
    assert check_loss(loss, options={"z_weight": 0.1}).n_assertions > 100


def test_wsd_keeps_the_contract(plugin):
    scheduler = plugin("tisslm_extras", "wsd").WSD
    assert check_scheduler(scheduler).n_assertions > 100
    for shape in ("sqrt", "cosine"):
        options = {"max_steps": 30, "decay_shape": shape, "min_lr": 0.01}
        assert check_scheduler(scheduler, options=options).n_assertions > 100


def test_parquet_keeps_the_contract(plugin):
    assert check_dataset(plugin("tisslm_parquet", "dataset").ParquetDataset).n_assertions > 100


def test_tiktoken_keeps_the_contract(plugin):
    tokenizer = plugin("tisslm_tiktoken", "tokenizer").TiktokenTokenizer
    assert check_tokenizer(tokenizer).n_assertions > 100


def test_the_documented_dataset_of_texts_keeps_the_contract(tmp_path, monkeypatch):
    (source,) = [text for text in EXAMPLES if "class Poems" in text]
    (tmp_path / "documented_poems.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    poems = importlib.import_module("documented_poems").Poems
    assert check_dataset(poems).n_assertions > 100
    path = tmp_path / "poems.txt"
    path.write_text("a rose\n\n\n\nis a rose\n\nis")
    dataset = poems(path, ByteTokenizer(), 8)
    assert dataset.window(0).start.tolist() == [0] * 6 + [6] * 2
    assert len(dataset.documents) == 3
    options = {"path": path, "tokenizer": ByteTokenizer(), "seq_len": 4}
    assert check_dataset(poems, options=options).n_assertions > 100


HOOKS = Path(__file__).parents[2] / "docs" / "plugin-hooks.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", HOOKS.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_example_of_the_documentation_keeps_the_contract(kind, tmp_path, monkeypatch):
    (source,) = [text for text in EXAMPLES if f"def {kind.hook}()" in text and "\nclass" in text]
    name = f"documented_{kind.name}"
    (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module(name)
    (entry,) = getattr(module, kind.hook)()
    # the tokenizer of the documentation knows four letters, and N for anything else
    arguments = {"text": "ACGTNNTGCA"} if kind.name == "tokenizer" else {}
    assert CHECKS[kind.name](entry.target, **arguments).n_assertions > 5

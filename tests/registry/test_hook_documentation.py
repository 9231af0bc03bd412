"""Every hook is documented with its signature, and every example is a plugin that loads."""

from __future__ import annotations

import inspect
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tisslm.contracts import RunInfo
from tisslm.memory import Parameters, ParameterSpec
from tisslm.registry import Registry, hookspecs, load_registry
from tisslm.registry.hookspecs import KINDS, Entry
from tisslm.testing import check_loss

if TYPE_CHECKING:
    from conftest import FakeSite

PAGE = Path(__file__).parents[2] / "docs" / "plugin-hooks.md"


def section(hook: str) -> str:
    """Return the part of the page that belongs to a hook."""
    sections = re.split(r"^### ", PAGE.read_text(), flags=re.MULTILINE)
    (found,) = [text for text in sections if f"`def {hook}" in text]
    return found


def example(hook: str) -> str:
    found = re.findall(r"```python\n(.*?)```", section(hook), flags=re.DOTALL)
    (code,) = [text for text in found if f"def {hook}()" in text]
    return str(code)


@pytest.fixture
def documented(site: FakeSite) -> Registry:
    """Every example of the page, installed."""
    for kind in KINDS.values():
        site.add(f"documented-{kind.name}", "1.0", example(kind.hook))
    return load_registry()


def part_of(registry: Registry, kind: str) -> str:
    (name,) = [
        part.entry.name
        for part in registry.entries(kind)
        if part.provider.distribution == f"documented-{kind}"
    ]
    return name


def parameters() -> Parameters:
    result = Parameters([ParameterSpec("w", (2, 3))], "float64")
    result["w"].grad[...] = [[1.0, -2.0, 0.0], [3.0, 0.5, -0.1]]
    return result


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_has_the_hooks_exact_signature(kind: str) -> None:
    hook = KINDS[kind].hook
    signature = inspect.signature(getattr(hookspecs, hook))
    text = section(hook)
    assert f"`def {hook}{signature}`".replace("'", "") in text
    assert all(f"`tisslm.contracts.{each}`" in text for each in KINDS[kind].contracts)


def test_the_page_has_no_hook_that_does_not_exist() -> None:
    described = set(re.findall(r"def (tisslm_\w+)", PAGE.read_text()))
    assert described == {kind.hook for kind in KINDS.values()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_pages_example_is_a_part_that_keeps_its_contract(
    documented: Registry, kind: str
) -> None:
    assert documented.left_out == ()
    assert documented.get(kind, part_of(documented, kind)) is not None


@pytest.mark.parametrize("kind", KINDS)
def test_the_docstrings_example_yields_an_entry(kind: str, site: FakeSite) -> None:
    hook = KINDS[kind].hook
    documentation = inspect.getdoc(getattr(hookspecs, hook)) or ""
    code = textwrap.dedent(documentation.partition("::\n")[2])
    assert code.strip().startswith(f"@hookimpl\ndef {hook}():")
    site.add("docstring-example", "1.0", code)
    (part,) = [
        part
        for part in load_registry().entries(kind)
        if part.provider.distribution == "docstring-example"
    ]
    assert isinstance(part.entry, Entry)


def test_the_first_example_is_what_the_plugin_of_that_name_does() -> None:
    plugin = PAGE.parents[1] / "plugins" / "tisslm-lion"
    hooks = (plugin / "src" / "tisslm_lion" / "__init__.py").read_text()
    for line in ("from tisslm import Entry, hookimpl", '"tisslm_lion.lion:Lion"'):
        assert line in PAGE.read_text()
        assert line in hooks
    for line in ("[project.entry-points.tisslm]", 'lion = "tisslm_lion"'):
        assert line in PAGE.read_text()
        assert line in (plugin / "pyproject.toml").read_text()


def test_the_loss_of_vectors_keeps_its_contract() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    (code,) = [text for text in blocks if "(EmbeddingLoss)" in text]
    names: dict[str, Any] = {"__name__": "page"}
    exec(code, names)
    assert check_loss(names["CoSent"]).n_assertions > 100


def test_the_optimizer_and_scheduler_examples_work(documented: Registry) -> None:
    model = parameters()
    optimizer = documented.build("optimizer", part_of(documented, "optimizer"), model, 0.5)
    name = part_of(documented, "scheduler")
    scheduler = documented.build("scheduler", name, optimizer, defaults={"max_steps": 4})
    assert [scheduler.lr_at(s) for s in (0, 25, 50, 75)] == [0.5, 0.25, 0.5, 0.25]
    optimizer.step()
    np.testing.assert_array_equal(model["w"].data, [[-0.5, 0.5, 0.0], [-0.5, -0.5, 0.5]])


def test_the_loss_example_has_the_gradient_of_its_loss(documented: Registry) -> None:
    loss = documented.build("loss", part_of(documented, "loss"))
    rng = np.random.default_rng(1)
    logits, targets = rng.normal(size=(3, 4)), np.array([2, -100, 0], dtype=np.int32)
    weights, step = np.array([0.5, 0.0, 2.0]), 1e-5

    def total(moved: Any) -> float:
        return float(loss.tile(moved.copy(), targets, weights, gradient=False).sum())

    expected = np.empty_like(logits)
    for index in np.ndindex(logits.shape):
        up, down = logits.copy(), logits.copy()
        up[index] += step
        down[index] -= step
        expected[index] = (total(up) - total(down)) / (2 * step)
    gradient = logits.copy()
    loss.tile(gradient, targets, weights)
    # two-point differences: rounding of 1e-16 / step
    np.testing.assert_allclose(gradient, expected, atol=1e-9)
    assert gradient[0].any()
    assert not gradient[1].any()


def test_the_observer_examples_work(documented: Registry, tmp_path: Path) -> None:
    sink = documented.build("sink", part_of(documented, "sink"))
    sink.open(RunInfo(tmp_path, "run"))
    sink.write(1, {"train/loss": 2.5})
    sink.write(2, {"lr": 0.1})
    sink.close()
    assert (tmp_path / "loss.txt").read_text() == "1 2.5\n"
    monitor = documented.build("monitor", part_of(documented, "monitor"))
    monitor.observe("w", np.array([1.0, -3.0]))
    assert monitor.metrics() == {"largest_gradient": 3.0}


def test_the_data_examples_work(documented: Registry) -> None:
    name = part_of(documented, "dataset")
    dataset = documented.build("dataset", (name, {"seq_len": 3, "vocab_size": 5}))
    x_T, y_T = dataset.window(3)
    assert (x_T.tolist(), y_T.tolist()) == ([3, 4, 0], [4, 0, 1])
    assert sorted(dataset.order(1, 2)) == list(range(5))
    x_BT, _ = next(dataset.batches(2, seed=1))
    assert x_BT.shape == (2, 3)
    name = part_of(documented, "tokenizer")
    tokenizer = documented.build("tokenizer", name, "any text", via="from_text")
    assert tokenizer.decode(tokenizer.encode("GATTacax")) == "GATTACAN"


def test_the_communicator_example_works(documented: Registry) -> None:
    communicator = documented.build("communicator", part_of(documented, "communicator"))
    assert communicator.all_gather(b"all") == [b"all"]

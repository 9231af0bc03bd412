"""Files that a plugin reads are taken by every command that takes texts, by their names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tisslm.cli.main import main
from tisslm.errors import PluginError
from tisslm.registry import load_registry
from tisslm.registry.hookspecs import Entry
from tisslm.tokenizers import ByteTokenizer
from tisslm.workflows.build.data import load_file

if TYPE_CHECKING:
    from conftest import FakeSite

PLUGIN = """
from tisslm import Entry, hookimpl
from tisslm.datasets import Document

def documents(path, options):
    for number, text in enumerate(path.read_text().split("%")):
        yield Document(((text, True),), f"{path}, text {number}")

@hookimpl
def tisslm_datasets():
    yield Entry("percent", "nowhere:Percent", "texts between percent signs",
                endings=(".percent",), documents=__name__ + ":documents")
"""


@pytest.fixture
def file(site: FakeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    site.add("percents", "1.0", PLUGIN)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.percent"
    path.write_text("%".join(f"text number {i} of some" for i in range(40)))
    return path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


def test_every_command_that_takes_texts(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tokenize", file.name, "--tokenizer", "byte", "--out", "shards") == 0
    assert "40 documents" in capsys.readouterr().out
    assert run("tokenizer", "train", file.name, "--vocab-size", "300", "--out", "t.json") == 0
    sizes = ("n_layer=1", "n_head=1", "n_embd=8", "seq_len=8")
    settings = [f"model.{size}" for size in sizes]
    settings += [f"data.path={file.name}", "training.max_steps=1", "training.output_dir=run"]
    settings += ["log.sinks=[]", "scheduler.warmup_steps=0"]
    assert run("train", *(word for s in settings for word in ("--set", s))) == 0
    assert run("eval", "run", "--data", file.name) == 0
    assert run("eval", "run") == 0


def test_python_is_told_of_plugins_by_the_registry(file: Path) -> None:
    rows = load_file(file, ByteTokenizer(), 8, registry=load_registry())
    assert len(rows) > 40


@pytest.mark.parametrize(
    ("endings", "documents"),
    [((".x",), ""), ((), "a:b"), (("x",), "a:b"), ([".x"], "a:b"), ((".x",), "a")],
)
def test_an_entry_has_endings_and_what_reads_them_or_neither(
    endings: object, documents: str
) -> None:
    with pytest.raises(PluginError, match=r"^Entry 'a': expected (endings|documents) "):
        Entry("a", "b:C", "d", endings=endings, documents=documents)  # type: ignore[arg-type]

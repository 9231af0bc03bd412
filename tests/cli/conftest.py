"""The command line in this process: arguments in; exit code, stdout and stderr out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from terminal import Session

from tisslm import ops
from tisslm.cli.main import main

#: A model that trains in milliseconds.
TINY = (
    "model.n_layer=1",
    "model.n_head=2",
    "model.n_embd=16",
    "model.seq_len=16",
    "training.batch_size=4",
    "training.max_steps=6",
    "training.validation_frequency=0",
)

TEXT = "".join(f"{i} green bottles hang on the wall, and {i} of them fall.\n" for i in range(60))


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str


Cli = Callable[..., Result]
Files = Callable[[], dict[str, bytes]]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small models are fastest on one thread, and results do not depend on it."""
    ops.set_threads(1)
    yield
    ops.set_threads(None)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder with one text, ``text.txt``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path


@pytest.fixture
def sessions() -> Iterator[list[Session]]:
    """Close what a test has started."""
    started: list[Session] = []
    yield started
    for session in started:
        session.close()


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run ``tisslm`` with these arguments."""

    def run(*arguments: str) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        out, err = capsys.readouterr()
        code = caught.value.code
        assert isinstance(code, int)
        return Result(code, out, err)

    return run


@pytest.fixture
def train(cli: Cli) -> Cli:
    """Run ``tisslm train`` on ``text.txt`` with a tiny model, these settings, then arguments."""

    def run(*settings: str, more: tuple[str, ...] = ()) -> Result:
        flags = [x for s in ("data.path=text.txt", *TINY, *settings) for x in ("--set", s)]
        return cli("train", *flags, *more)

    return run


@pytest.fixture
def trained(train: Cli, folder: Path) -> Path:
    """Train a run in ``run/`` and return its path."""
    result = train("training.output_dir=run")
    assert (result.code, result.err) == (0, "")
    return folder / "run"


@pytest.fixture
def files(folder: Path) -> Files:
    """Return the contents of every file below the folder, by path."""

    def read() -> dict[str, bytes]:
        found = sorted(p for p in folder.rglob("*") if p.is_file())
        return {str(p.relative_to(folder)): p.read_bytes() for p in found}

    return read

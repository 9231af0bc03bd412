"""Commands with standard streams of every kind, and the files that they work on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TEXT = "".join(f"{i} green bottles hang on the wall, and {i} of them fall.\n" for i in range(60))

TINY = (
    "data.path=text.txt",
    "model.n_layer=1",
    "model.n_head=2",
    "model.n_embd=16",
    "model.seq_len=16",
    "training.batch_size=4",
    "training.max_steps=6",
    "training.validation_frequency=3",
    "training.logging_steps=1",
    "training.threads=1",
)


#: What makes an encoder of a tiny run.
VECTORS = (
    "data.name=examples",
    "data.path=pairs.jsonl",
    "model.pooling=mean",
    "loss.name=contrastive",
    "training.output_dir=encoder",
)


@pytest.fixture(scope="session")
def settings() -> list[str]:
    """Return the options of a run that takes milliseconds."""
    return [word for setting in TINY for word in ("--set", setting)]


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str


#: Arguments, what the handles 0 to 2 are: "closed", "full", "broken" or, left out, ready; and
#: perhaps the file that is read from the first.
Call = dict[str, Any]

Start = Callable[..., list[Result]]


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Run ``tisslm`` several times in a folder."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OPENBLAS_NUM_THREADS": "1",
        "TISSLM_NUM_THREADS": "1",
        "MPLCONFIGDIR": str(tmp_path_factory.mktemp("matplotlib")),
    }
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("commands.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        requests, answers = server.stdin, server.stdout

        def run(folder: Path, *calls: Call) -> list[Result]:
            for call in calls:
                call.setdefault("folder", str(folder))
                call.setdefault("streams", {})
            requests.write(json.dumps(calls) + "\n")
            requests.flush()
            return [Result(**answer) for answer in json.loads(answers.readline())]

        yield run
        requests.close()


@pytest.fixture(scope="session")
def folder(start: Start, settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with a text, runs, and a model that talks, and change nothing any more."""
    path = tmp_path_factory.mktemp("streams")
    (path / "text.txt").write_text(TEXT, encoding="utf-8")
    more = ("--set", "training.output_dir=run", "--set", "training.save_every=3")
    (made,) = start(path, {"arguments": ("train", *settings, *more)})
    assert (made.code, made.err) == (0, "")
    (made,) = start(path, {"arguments": ("export", "run", "--output", "talks")})
    assert (made.code, made.err) == (0, "")
    config = json.loads((path / "talks/tokenizer_config.json").read_text())
    config["chat_template"] = "{% for message in messages %}{{ message.content }}\n{% endfor %}"
    (path / "talks/tokenizer_config.json").write_text(json.dumps(config))
    (path / "turns.txt").write_text("10\nfall\n")
    pairs = ({"anchor": f"{i}", "positive": f"{i} of them fall"} for i in range(40))
    (path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    more = (word for setting in VECTORS for word in ("--set", setting))
    (made,) = start(path, {"arguments": ("train", *settings, *more)})
    assert (made.code, made.err) == (0, "")
    return path

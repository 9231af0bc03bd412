"""The lives of ARCHITECTURE.md are those that values lead: followed from file to file."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from architecture.figures import PACKAGE, ROOT, edges, floors, reach

from tisslm.config import RunConfig
from tisslm.training.trainer import Trainer
from tisslm.workflows.build.trainer import build_trainer
from tisslm.workflows.load_model import load_model

RUN = """
model = { n_layer = 1, n_head = 1, n_embd = 8, seq_len = 8 }
data = { path = "text.txt" }
training = { learning_rate = 1e-3, max_steps = 2, batch_size = 2, output_dir = "runs" }
"""
Arrow = tuple[str, str]


def follow(call: Callable[[], object]) -> set[Arrow]:
    """Return the pairs of files of which the first calls into the second; imports are no calls."""
    arrows = set()
    home = f"{PACKAGE}/"

    def on_event(frame, event, _):
        path = frame.f_code.co_filename
        if event != "call" or not path.startswith(home) or frame.f_code.co_name == "<module>":
            return
        above = frame.f_back
        while above is not None and not above.f_code.co_filename.startswith(home):
            above = above.f_back
        if above is not None and above.f_code.co_filename != path:
            arrows.add((above.f_code.co_filename.removeprefix(home), path.removeprefix(home)))

    sys.setprofile(on_event)
    try:
        call()
    finally:
        sys.setprofile(None)
    return arrows


def upwards(arrows: set[Arrow]) -> list[Arrow]:
    """Return the arrows to a higher floor, and on one floor to a file that needs the first."""
    level = {name: i for i, names in enumerate(floors()) for name in names}

    def is_up(arrow: Arrow) -> bool:
        first, second = (level.get(path.partition("/")[0], len(level)) for path in arrow)
        return first < second or (first == second and module(arrow[0]) in needs(module(arrow[1])))

    return sorted(arrow for arrow in arrows if is_up(arrow))


@cache
def needs(name: str) -> set[str]:
    return reach(edges(), name)


def module(path: str) -> str:
    return "tisslm." + path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def life(heading: str) -> list[tuple[int, str]]:
    """Return the depth and the file of each line of the first block below a heading."""
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8").partition(f"## {heading}\n")[2]
    block = re.search(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[1]
    lines = [re.match(r"( *)(\S+)", line) for line in block.splitlines()]
    return [(len(found[1]) // 2, found[2]) for found in lines]


def arrows_of(lines: list[tuple[int, str]]) -> list[Arrow]:
    """Return caller and called of every line but the first."""
    above: dict[int, str] = {}
    arrows = []
    for depth, path in lines:
        above[depth] = path
        if depth:
            arrows.append((above[depth - 1], path))
    return arrows


@pytest.fixture(scope="module")
def lives(tmp_path_factory) -> dict[str, set[Arrow]]:
    """Return what each life has passed, by its heading."""
    folder = tmp_path_factory.mktemp("lives")
    (folder / "text.txt").write_text("a text to learn from, " * 40)
    (folder / "run.toml").write_text(RUN)
    built: list[Trainer] = []

    def build() -> None:
        built.append(build_trainer(RunConfig.load(folder / "run.toml", env={})))

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        rate = follow(build)
        (trainer,) = built
        window = next(trainer.session.batches("test"))
        step = follow(lambda: trainer.train_step(*window))
        path = trainer.save_checkpoint(0, 1)
        loaded = follow(lambda: load_model(path))
    return {
        "The life of one step": step,
        "The life of a learning rate": rate,
        "The life of a checkpoint's path": loaded,
    }


#: Half of the files that each passed upwards before: 5, 29 and 4.
MOST_UPWARDS = {
    "The life of one step": 2,
    "The life of a learning rate": 14,
    "The life of a checkpoint's path": 2,
}
every_life = pytest.mark.parametrize("heading", MOST_UPWARDS)


@every_life
def test_every_file_of_a_life_is_called_by_the_one_above_it(lives, heading):
    lines = life(heading)
    assert len(lines) > 10
    command = lines[0][1] if lines[0][1].startswith("cli/") else ""
    for first, second in arrows_of(lines):
        assert (PACKAGE / second).is_file(), second
        if first == command:  # the command itself is not run here
            homes = {module(second), module(second).rpartition(".")[0]}
            assert homes & edges()[module(first)], (first, second)
        elif not second.endswith(".pyx"):  # compiled, so no call is seen
            assert (first, second) in lives[heading], (first, second)


@every_life
def test_a_life_goes_upwards_at_most_half_as_often_as_before(lives, heading):
    assert len(upwards(lives[heading])) <= MOST_UPWARDS[heading], upwards(lives[heading])


def test_a_call_upwards_would_be_seen():
    up = [("contracts/optimization.py", "optim/optimizers/adamw.py")]
    level = [("config/fields.py", "config/training.py")]  # the second imports the first
    down = [("training/step.py", "models/transformer.py"), ("config/training.py", "config/base.py")]
    assert upwards({*up, *level, *down}) == sorted([*up, *level])


def test_calls_between_files_are_seen(tmp_path: Path):
    from tisslm.system.strict_json import read_json

    (tmp_path / "a.json").write_text("{}")
    arrows = follow(lambda: read_json(tmp_path / "a.json", 10))
    assert ("system/strict_json.py", "system/safe_files.py") in arrows

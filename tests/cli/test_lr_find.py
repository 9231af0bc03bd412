"""``tisslm lr-find``: the table, the suggestion, JSON, the picture, and what it leaves alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Cli, Files

SETTINGS = (
    "data.path=text.txt",
    "model.n_layer=1",
    "model.n_head=2",
    "model.n_embd=16",
    "model.seq_len=16",
    "training.batch_size=4",
)


def lr_find(cli: Cli, *more: str) -> Any:
    return cli("lr-find", *(x for s in SETTINGS for x in ("--set", s)), *more)


def test_it_shows_a_table_and_a_suggestion_and_writes_nothing(cli: Cli, files: Files) -> None:
    before = files()
    result = lr_find(cli, "--steps", "60", "--max-lr", "0.3")
    assert (result.code, result.err) == (0, "")
    assert files() == before
    lines = result.out.splitlines()
    assert lines[0].split() == ["learning", "rate", "loss", "smoothed"]
    assert lines[1].split()[0] == "1.00e-06"
    assert len(lines) == 1 + 20 + 2
    value = json.loads(lr_find(cli, "--steps", "60", "--max-lr", "0.3", "--json").out)
    assert 1e-4 < value["suggestion"] < value["least"] < 0.3
    assert lines[-2] == (
        f"the loss is least at {value['least']:.2g} and falls fastest at {value['suggestion']:.2g}"
    )
    assert lines[-1] == f"suggestion: --set training.learning_rate={value['suggestion']:.2g}"


def test_the_picture_is_written(cli: Cli, folder: Any) -> None:
    pytest.importorskip("matplotlib")
    result = lr_find(cli, "--steps", "12", "--plot", "lr.svg")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[-1] == "plot: lr.svg"
    assert "Learning-rate range test: python-docs" in (folder / "lr.svg").read_text()


def test_a_loss_that_runs_away_and_one_that_never_falls_are_said(cli: Cli) -> None:
    result = lr_find(cli, "--steps", "4", "--min-lr", "1e3", "--max-lr", "1e9")
    assert result.code == 0
    assert result.out.splitlines()[-2:] == [
        "the loss ran away at the lowest rate; lower --min-lr",
        "no suggestion: the loss does not fall, or too few rates came before it rose; take more "
        "steps, or another range",
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ("--min-lr", "1", "--max-lr", "0.1"),
            "range test: expected a lowest rate above 0 and a highest above that, got 1 and 0.1",
        ),
        (("--steps", "1"), "range test: expected at least 2 steps, got 1"),
        (("--plot", "lr.pdf"), "plot: expected a file that ends in .svg or .png, got 'lr.pdf'"),
    ],
)
def test_wrong_options_are_refused_before_any_work(
    cli: Cli, more: tuple[str, ...], message: str
) -> None:
    result = lr_find(cli, *more)
    assert (result.code, result.out, result.err) == (3, "", f"error: {message}\n")


def test_a_run_that_was_trained_is_left_alone(cli: Cli, trained: Any, files: Files) -> None:
    before = files()
    result = lr_find(
        cli, "--steps", "4", "--set", "training.resume=run", "--set", "training.max_steps=6"
    )
    assert result.code == 0
    assert files() == before

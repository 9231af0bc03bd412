"""``tisslm coord-check``: the table, the verdict, JSON, the picture, and what it leaves alone."""

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
CHECK = ("--widths", "16,64", "--steps", "2", "--seeds", "1")


def coord_check(cli: Cli, *more: str) -> Any:
    return cli("coord-check", *(x for s in SETTINGS for x in ("--set", s)), *CHECK, *more)


def test_it_shows_a_table_and_a_verdict_and_writes_nothing(cli: Cli, files: Files) -> None:
    before = files()
    result = coord_check(cli)
    assert (result.code, result.err) == (0, "")
    assert files() == before
    head, columns, *rows, loss, words = result.out.splitlines()
    assert head == "mean |x| after 2 steps; ratios are the largest over the least"
    assert columns.split() == ["16", "64", "ratio", "at", "step", "0"]
    found = json.loads(coord_check(cli, "--json").out)
    assert [row.split()[0] for row in rows] == list(found["sizes"])
    assert rows[0].split()[-1] == f"{found['ratios']['embedding'][0]:.2f}"
    assert loss.split() == ["loss", *(f"{value:.4f}" for value in found["losses"][-1])]
    assert (found["base"], found["widths"], found["seeds"]) == (16, [16, 64], [1])
    verdict = "flat" if found["flat"] else "not flat"
    assert words.startswith(f"with muP from width 16, activations are {verdict} from width 16 to")


def test_without_mup_and_by_the_runs_own_base(cli: Cli) -> None:
    assert coord_check(cli, "--base-width", "0").out.splitlines()[-1].startswith("without muP, ")
    own = coord_check(cli, "--set", "model.mup_base_width=16", "--head-dim", "8", "--json")
    assert json.loads(own.out)["base"] == 16


def test_the_picture_is_written(cli: Cli, folder: Any) -> None:
    pytest.importorskip("matplotlib")
    result = coord_check(cli, "--plot", "widths.svg")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[-1] == "plot: widths.svg"
    assert "Mean absolute activation by width: python-docs" in (folder / "widths.svg").read_text()


@pytest.mark.filterwarnings("ignore::tisslm.config.ConfigNote")
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--widths", "16,x"), "error: --widths: expected numbers of channels with commas, such "),
        (("--widths", "16"), "error: coordinate check: expected at least two widths, ascending"),
        (("--plot", "x.pdf"), "error: plot: expected a file that ends in .svg or .png, got 'x.pd"),
        (
            ("--set", "optimizer.name=sgd"),
            "error: optimizer: expected one whose updates do not depend on the size of gradients",
        ),
        (
            ("--set", "model.pooling=mean"),
            "error: coordinate check: expected a run of a language model of a built-in family that",
        ),
    ],
)
def test_mistakes_end_in_a_sentence(cli: Cli, more: tuple[str, ...], message: str) -> None:
    result = coord_check(cli, *more)
    assert (result.code, result.out) == (3, "")
    assert result.err.splitlines()[-1].startswith(message)

"""``tisslm eval``: the loss of the run's own validation text, and of others."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from checkpoints import reseal
from safetensors.numpy import load_file, save_file

from tisslm.config import DataSection
from tisslm.datasets.text import split_text
from tisslm.tokenizers import ByteTokenizer
from tisslm.workflows.build.data import load_file as read_rows

if TYPE_CHECKING:
    from conftest import Cli


@pytest.mark.parametrize("how", [(), ("data.valid_path=text.txt",), ("tokenizer.name=byte",)])
def test_the_loss_is_that_of_the_runs_summary(
    train: Cli, cli: Cli, folder: Path, how: tuple[str, ...]
) -> None:
    assert train("training.output_dir=run", *how).code == 0
    result = cli("eval", "run", "--json")
    found = json.loads(result.out)
    assert (result.code, result.err) == (0, "")
    assert found["loss"] == json.loads((folder / "run" / "summary.json").read_text())["eval_loss"]
    assert found["perplexity"] == math.exp(found["loss"])
    assert found["checkpoint"] == "run/checkpoints/checkpoint-6"
    assert list(found) == [
        "checkpoint",
        "data",
        "loss",
        "perplexity",
        "accuracy",
        "top5_accuracy",
        "bpb",
        "targets",
        "bytes",
        "seconds",
    ]
    bits = found["loss"] * found["targets"] / math.log(2)
    assert found["bpb"] == pytest.approx(bits / found["bytes"], rel=1e-12)
    assert 0 <= found["accuracy"] <= found["top5_accuracy"] <= 1


def test_a_given_text_is_evaluated_whole(cli: Cli, trained: Path, folder: Path) -> None:
    text = (folder / "text.txt").read_text()
    valid = split_text(text)[1]
    (folder / "valid.txt").write_text(valid)
    own = json.loads(cli("eval", "run", "--json").out)
    given = json.loads(cli("eval", "run", "--data", "valid.txt", "--json").out)
    assert given["data"] == "valid.txt"
    assert given["targets"] == own["targets"] == (len(valid) - 1) // 16 * 16
    # Another batch size adds the same losses in another order.
    assert given["loss"] == pytest.approx(own["loss"], rel=1e-6)


def test_people_get_two_lines(cli: Cli, trained: Path) -> None:
    found = json.loads(cli("eval", "run", "--json").out)
    lines = cli("eval", "run/checkpoints/checkpoint-6").out.splitlines()
    assert lines[0] == "run/checkpoints/checkpoint-6"
    assert lines[1].startswith(
        f"text.txt, validation part: loss {found['loss']:.4f} nats per token | perplexity "
        f"{found['perplexity']:.2f} | accuracy {found['accuracy']:.1%} (top five "
        f"{found['top5_accuracy']:.1%}) | {found['bpb']:.4f} bits per byte | "
        f"{found['targets']} targets | "
    )


def test_a_run_without_validation_asks_for_a_text(train: Cli, cli: Cli) -> None:
    assert train("training.output_dir=run", "data.valid_fraction=0").code == 0
    result = cli("eval", "run")
    assert (result.code, result.err) == (
        1,
        "error: run/checkpoints/checkpoint-6: its run had no validation text; give a text with "
        "--data\n",
    )
    assert cli("eval", "run", "--data", "text.txt").code == 0


def test_a_checkpoint_away_from_its_run_asks_for_a_text(
    cli: Cli, trained: Path, folder: Path
) -> None:
    shutil.copytree(trained / "checkpoints" / "checkpoint-6", folder / "elsewhere")
    result = cli("eval", "elsewhere")
    assert (result.code, result.err) == (
        1,
        f"error: {folder}/elsewhere: expected the run's config.resolved.toml in a folder above "
        "it, found none; leave the checkpoint in its run directory; or give a text with --data\n",
    )
    # A configuration above that is of another run is not taken for this one's.
    shutil.copytree(trained / "checkpoints" / "checkpoint-6", trained / "old" / "checkpoint-6")
    assert cli("eval", "run/old/checkpoint-6").code == 1


def test_a_configuration_without_a_text_asks_for_one(cli: Cli, trained: Path) -> None:
    (trained / "config.resolved.toml").write_text("[training]\nepochs = 1\n")
    result = cli("eval", "run")
    assert result.code == 1
    assert result.err.startswith("error: the run was composed in Python or its configuration ")
    assert result.err.endswith("; or give a text with --data\n")


def test_a_loss_that_json_cannot_hold_is_a_word(cli: Cli, trained: Path) -> None:
    path = trained / "checkpoints/checkpoint-6/model.safetensors"
    arrays = load_file(path)
    spoilt = {name: array * math.nan for name, array in arrays.items() if array.any()}
    save_file(arrays | spoilt, path)  # zeros are what others read as no bias
    reseal(path.parent)
    found = json.loads(cli("eval", "run", "--json").out, parse_constant=pytest.fail)
    assert found["loss"] == "NaN"


# --------------------------------------------------------------------------- rows, folders, tasks


def test_rows_may_be_shorter_than_the_context(cli: Cli, trained: Path) -> None:
    found = json.loads(cli("eval", "run", "--data", "text.txt", "--seq-len", "5", "--json").out)
    whole = json.loads(cli("eval", "run", "--data", "text.txt", "--json").out)
    assert found["targets"] % 5 == 0
    assert whole["targets"] % 16 == 0
    assert found["loss"] != whole["loss"]
    long = cli("eval", "run", "--data", "text.txt", "--seq-len", "17")
    assert long.code != 0
    assert "expected at most 16, beyond which" in long.err


@pytest.fixture
def published(trained: Path, folder: Path) -> Path:
    """Return the folder of a model that no run has made."""
    place = trained / "checkpoints/checkpoint-6"
    (folder / "published").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / "published" / name).write_bytes((place / name).read_bytes())
    return folder / "published"


@pytest.mark.usefixtures("published")
def test_a_published_model_is_held_against_every_token(cli: Cli, folder: Path) -> None:
    # 40 targets of characters in rows of 16, of which full windows would leave the last 8 out.
    (folder / "some.txt").write_text((folder / "text.txt").read_text()[:41])
    (folder / "short.txt").write_text((folder / "text.txt").read_text()[:9])
    documents = [{"text": (folder / "text.txt").read_text()[i : i + 9]} for i in range(5)]
    (folder / "many.jsonl").write_text("\n".join(map(json.dumps, documents)))
    for name, targets in (("some.txt", 40), ("short.txt", 8), ("many.jsonl", 5 * 8)):
        found = json.loads(cli("eval", "published", "--data", name, "--json").out)
        assert found["targets"] == targets, name


def test_rows_of_whole_documents_are_as_long_as_the_longest(folder: Path) -> None:
    (folder / "many.jsonl").write_text('{"text": "one"}\n{"text": "three"}\n')
    whole = DataSection(packing="whole")
    assert read_rows("many.jsonl", ByteTokenizer(), 8192, whole).seq_len == len("three")
    assert read_rows("many.jsonl", ByteTokenizer(), 2, whole).seq_len == 2


@pytest.mark.usefixtures("published")
def test_a_published_folder_needs_a_text(cli: Cli, folder: Path) -> None:
    (folder / "some.txt").write_text((folder / "text.txt").read_text()[: 20 * 16 + 1])
    ours = json.loads(cli("eval", "run", "--data", "some.txt", "--json").out)
    theirs = json.loads(cli("eval", "published", "--data", "some.txt", "--json").out)
    assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-6)
    assert theirs["targets"] == ours["targets"] == 20 * 16
    result = cli("eval", "published")
    assert result.code == 1
    assert result.err == "error: published: no run has made it; give a text with --data\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tasks", "x", "--data", "text.txt"], "--tasks: expected tasks or --data, got both"),
        (["--include-path", "."], "--include-path: it is for --tasks, of which there are none"),
        (["--limit", "3"], "--limit: it is for --tasks"),
        (["--few-shot", "0"], "--few-shot: it is for --tasks"),
    ],
)
def test_options_of_tasks_go_with_tasks(cli: Cli, trained: Path, flags, message) -> None:
    result = cli("eval", "run", *flags)
    assert result.code == 3
    assert message in result.err

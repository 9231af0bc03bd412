"""A family of models from a package that is no part of this one, by its name in every command."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tisslm_conv

from tisslm.registry.discovery import DISABLE_VARIABLE
from tisslm.workflows.load_model import load_model

if TYPE_CHECKING:
    from conftest import Cli, Result

#: That [model] starts afresh is a note.
pytestmark = pytest.mark.filterwarnings("default::UserWarning")

#: A plain folder of Python files, which becomes a distribution that nobody has heard of.
SOURCE = Path(tisslm_conv.__file__).parent
NAME, MODULE = "outside_conv", "tisslm_outside"
MODEL = (f"model.family={NAME}", "model.n_layer=2", "model.n_embd=8", "model.seq_len=16")
RUN = ("training.batch_size=4", "training.max_steps=6", "training.save_every=3")
STARTS_AFRESH = (
    f'note: model.family = "{NAME}" starts [model] afresh: preset, seq_len of the default '
    "configuration left out\n"
)


@pytest.fixture
def package(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a package with a family of its own; return its folder, without which it is gone."""
    site = tmp_path_factory.mktemp("site")
    (site / MODULE).mkdir()
    for path in SOURCE.glob("*.py"):
        text = path.read_text("utf-8").replace("tisslm_conv", MODULE).replace("causal_conv", NAME)
        (site / MODULE / path.name).write_text(text, "utf-8")
    info = site / "tisslm_outside-2.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tisslm-outside\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text(f"[tisslm]\noutside = {MODULE}\n")
    monkeypatch.syspath_prepend(str(site))
    for name in [n for n in sys.modules if n.partition(".")[0] == MODULE]:
        monkeypatch.delitem(sys.modules, name)
    importlib.invalidate_caches()
    return site


@pytest.fixture
def outside(cli: Cli, package: Path) -> Cli:
    """Run a command that takes settings on the family's model."""

    def run(command: str, *settings: str, more: tuple[str, ...] = ()) -> Result:
        given = ("data.path=text.txt", *MODEL, *RUN, *settings)
        return cli(command, *(x for s in given for x in ("--set", s)), *more)

    return run


@pytest.fixture
def trained(outside: Cli, folder: Path) -> Path:
    result = outside("train", "training.output_dir=run")
    assert (result.code, result.err) == (0, STARTS_AFRESH)
    return folder / "run"


def weights(checkpoint: Path) -> dict[str, bytes]:
    names = ("model.safetensors", "optimizer.safetensors", "trainer_state.json", "config.json")
    return {name: (checkpoint / name).read_bytes() for name in names}


def test_it_is_listed_with_its_package(cli: Cli, package: Path) -> None:
    rows = json.loads(cli("plugins", "--json").out)
    (row,) = [row for row in rows if row["name"] == NAME]
    assert (row["kind"], row["distribution"], row["version"]) == ("model", "tisslm-outside", "2.5")


def test_a_checkpoint_names_it_and_is_loaded_by_it(trained: Path, cli: Cli) -> None:
    checkpoint = trained / "checkpoints" / "checkpoint-6"
    config = json.loads((checkpoint / "config.json").read_text())
    vocab_size = len(set(Path("text.txt").read_text()))
    assert config == {"family": NAME, "n_layer": 2, "n_embd": 8, "seq_len": 16,
                      "vocab_size": vocab_size}  # fmt: skip
    model, tokenizer = load_model(trained)
    assert (type(model).__module__, model.family) == (f"{MODULE}.model", NAME)
    assert tokenizer is not None
    assert tokenizer.vocab_size == model.vocab_size
    assert cli("verify", "run").code == 0


def test_a_resumed_run_has_the_bits_of_the_whole_one(outside: Cli, trained: Path) -> None:
    last = trained / "checkpoints" / "checkpoint-6"
    whole = weights(last)
    shutil.rmtree(last)
    result = outside("train", "training.output_dir=run", more=("--resume", "auto"))
    assert (result.code, result.err) == (0, STARTS_AFRESH)
    assert weights(last) == whole


def test_another_shape_is_refused_on_resume(outside: Cli, trained: Path) -> None:
    result = outside("train", "model.n_embd=12", more=("--resume", "run"))
    assert result.code == 1
    assert "made with model.n_embd = 8, this model has 12" in result.err


def test_another_family_is_refused_on_resume(train: Cli, trained: Path) -> None:
    result = train(more=("--resume", "run"))
    assert result.code == 1
    assert "made with model.family = 'outside_conv', this model has 'gpt2'" in result.err


def test_it_is_planned(outside: Cli) -> None:
    result = outside("plan", more=("--json",))
    plan = json.loads(result.out)
    memory = plan["memory"]["by_family"]
    channels, vocab = 8, len(set(Path("text.txt").read_text()))
    count = vocab * channels + 2 * (2 * channels**2 + channels)
    assert (result.code, plan["parameters"]) == (0, count)
    assert memory["logits"] == 4 * 4 * 16 * vocab
    assert memory["activations"] == 4 * (2 * 2) * (4 * 16) * channels
    assert set(plan["memory"]["by_layer"]) == {"embedding", "layers.0", "layers.1"}


def test_a_family_that_says_the_least_is_planned(outside: Cli, package: Path) -> None:
    without(package / MODULE / "model.py", "flops_per_token")
    result = outside("plan")
    assert result.code == 0
    assert "operations per token  not counted by the model\n" in result.out
    assert "tokens/s, " in result.out
    assert "GFLOP/s" not in result.out
    assert "layers.0 ... (2 alike, each)" in result.out
    assert json.loads(outside("plan", more=("--json",)).out)["speed"]["gflops"] is None


def test_the_speed_of_a_family_with_a_fixed_number_of_layers_is_not_foretold(
    outside: Cli, package: Path
) -> None:
    without(package / MODULE / "family.py", "with_layers")
    result = outside("plan")
    assert result.code == 0
    assert "not measured: two blocks" in result.out
    assert result.out.endswith("or the family cannot change their number\n")
    assert "or the family cannot change their number" in outside("project").err


def without(file: Path, method: str) -> None:
    """Take a method away, so that the contract's takes its place."""
    text = file.read_text("utf-8")
    assert text.count(f"def {method}(") == 1
    file.write_text(text.replace(f"def {method}(", f"def not_{method}("), "utf-8")


def test_it_writes_text(cli: Cli, trained: Path) -> None:
    first, second = (
        cli("generate", "run", "--prompt", "12 green", "--max-new-tokens", "30", "--seed", "3")
        for _ in range(2)
    )
    assert first.code == 0
    assert first.out.startswith("12 green")  # and goes on for longer than its context
    assert len(first.out.rstrip("\n")) > len("12 green") + 16
    assert first.out == second.out


def test_it_is_evaluated(cli: Cli, trained: Path, folder: Path) -> None:
    result = cli("eval", "run", "--data", "text.txt", "--json")
    model, tokenizer = load_model(trained)
    assert tokenizer is not None
    ids = tokenizer.encode_array((folder / "text.txt").read_text())[: 16 * 200 + 1]
    logits, _ = model.forward(np.asarray(ids[:-1]).reshape(-1, 16))
    top = logits.max(axis=-1, keepdims=True)
    log_p = logits - top - np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))
    targets = np.asarray(ids[1:]).reshape(-1, 16, 1)
    wanted = -np.take_along_axis(log_p, targets, axis=-1).mean()
    assert result.code == 0
    # 200 of the 208 windows here, and float32 sums of 29 exponentials
    assert json.loads(result.out)["loss"] == pytest.approx(wanted, rel=2e-3)


def test_a_step_is_made_again(cli: Cli, trained: Path) -> None:
    result = cli("replay", "run", "--step", "5")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[2].endswith("as on record, bit for bit")


def test_it_is_tried_without_a_run(outside: Cli, folder: Path) -> None:
    result = outside("train", "training.output_dir=dry", more=("--dry-run",))
    assert result.code == 0
    assert "dry run: nothing was written" in result.out
    assert not (folder / "dry").exists()


def test_its_learning_rate_is_looked_for(outside: Cli) -> None:
    result = outside("lr-find", more=("--steps", "5", "--json"))
    assert result.code == 0
    assert len(json.loads(result.out)["losses"]) == 5


def test_its_gradients_are_checked(cli: Cli, package: Path, folder: Path) -> None:
    sections = {"data": ["data.path='text.txt'"], "model": [MODEL[0].replace("=", "='") + "'"]}
    lines = [f"[{s}]\n" + "\n".join(x.partition(".")[2] for x in xs) for s, xs in sections.items()]
    sizes = "\nn_layer = 2\nn_embd = 6\nseq_len = 9\nvocab_size = 11\n"
    (folder / "model.toml").write_text("\n".join(lines) + sizes)
    result = cli("gradcheck", "--model", "model.toml", "--json")
    rows = json.loads(result.out)
    assert {row["name"] for row in rows} == {NAME, f"{NAME}_logits"}
    assert [row for row in rows if not row["passed"]] == []
    assert result.code == 0


def test_samples_and_monitors_go_with_it(outside: Cli, folder: Path) -> None:
    result = outside(
        "train", "training.output_dir=run", "training.sample_every=2", "training.monitor_steps=1",
        'log.monitors=["gradient_norms", "update_norms"]',
    )  # fmt: skip
    assert (result.code, result.err) == (0, STARTS_AFRESH)
    lines = [json.loads(x) for x in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    for kind in ("grad", "update"):
        assert any(kind in key and "layers.0.now" in key for key in lines[0]), list(lines[0])
    assert "\nsample:" in result.out


@pytest.mark.filterwarnings("default::RuntimeWarning")
@pytest.mark.parametrize(
    ("monitor", "wanted"),
    [("activation_stats", "activations"), ("attention_entropy", "attention")],
)
def test_a_monitor_of_what_it_does_not_show_is_one_sentence(
    outside: Cli, monitor: str, wanted: str
) -> None:
    result = outside("train", "training.monitor_steps=1", f'log.monitors=["{monitor}"]')
    assert result.code == 0
    assert result.err.removeprefix(STARTS_AFRESH) == (
        f"warning: monitor {monitor} is switched off: it wants {wanted}, and ConvModel shows none. "
        "A model shows its passes by tisslm.contracts.pass_observer\n"
    )


@pytest.mark.parametrize(
    ("setting", "value"), [("precision", "bf16"), ("activation_checkpointing", "full")]
)
def test_what_its_passes_cannot_is_one_sentence(outside: Cli, setting: str, value: str) -> None:
    result = outside("train", f"training.{setting}={value}")
    assert result.code == 3
    assert result.err.removeprefix(STARTS_AFRESH).startswith(
        "error: ConvModel has no prepare() of its own: expected only the defaults"
    )


@pytest.mark.parametrize(
    "command",
    [("generate", "run"), ("eval", "run", "--data", "text.txt"), ("replay", "run", "--step", "5")],
)
@pytest.mark.parametrize("gone", ["uninstalled", "switched off"])
def test_a_checkpoint_of_a_family_that_is_gone(
    cli: Cli,
    trained: Path,
    package: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    gone: str,
) -> None:
    if gone == "uninstalled":
        shutil.rmtree(package / "tisslm_outside-2.5.dist-info")
        importlib.invalidate_caches()
    else:
        monkeypatch.setenv(DISABLE_VARIABLE, "tisslm-outside")
    result = cli(*command)
    assert result.code == 3
    (line,) = result.err.splitlines()
    assert f"unknown model '{NAME}'. Known: " in line
    if gone == "switched off":
        assert "tisslm-outside 2.5 is switched off by TISSLM_DISABLE_PLUGINS" in line
    if command[0] != "replay":
        place = "run/checkpoints/checkpoint-6/config.json"
        assert line.startswith(f"error: {place}: ")
        assert line.endswith("Install the plugin that its run was made with")

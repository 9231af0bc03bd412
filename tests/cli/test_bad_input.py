"""Every bad input ends in one sentence and an exit code; what was there before stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from checkpoints import reseal
from safetensors.numpy import load_file, save_file

from tisslm import TokenDataset, Trainer, TrainingConfig, Transformer, TransformerConfig
from tisslm.cli.main import TRACEBACK_VARIABLE
from tisslm.config.model import PRESETS
from tisslm.errors import ConfigError, DataError, ShapeError
from tisslm.models.generation import Sampling

if TYPE_CHECKING:
    from conftest import Cli, Files


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "training.max_step=5",
            "training.max_step: unknown key; did you mean training.max_steps? "
            "(set by --set training.max_step)",
        ),
        ("trainning.seed=1", "[trainning]: unknown section; did you mean [training]?"),
        (
            "training.batch_size=many",
            'training.batch_size: expected an integer >= 1, got "many" '
            "(set by --set training.batch_size)",
        ),
        (
            "training.batch_size=0",
            "training.batch_size: expected an integer >= 1, got 0 "
            "(set by --set training.batch_size)",
        ),
        (
            "optimizer.beta3=0.5",
            "optimizer 'adamw' has no option 'beta3'. Options: beta1, beta2, eps, weight_decay. "
            "Did you mean 'beta2'?",
        ),
        (
            "scheduler.warmup_steps=6",
            "scheduler warmup_cosine: warmup_steps: expected an integer from 0 to below "
            "max_steps = 6, or a fraction below 1, got 6",
        ),
        (
            "tokenizer.lowercase=true",
            "tokenizer 'char' has no option 'lowercase'. Options: characters",
        ),
        (
            "model.vocab_size=5",
            "model.vocab_size: expected at least 29, the number of ids of the char tokenizer, "
            "got 5; leave it out or raise it",
        ),
        (
            "model.n_head=3",
            "model.n_embd: expected a multiple of n_head = 3, got 16; or give model.head_dim",
        ),
        (
            "model.preset=char-tini",
            f"model.preset: unknown preset 'char-tini'. Known: {', '.join(PRESETS)}, and depth-N "
            "with N from 1 to 999. Did you mean 'char-tiny'?",
        ),
        (
            "training.output_dir=text.txt/run",
            "training.output_dir: 'text.txt/run' cannot be written (Not a directory); choose "
            "another directory or mend its permissions",
        ),
        ("seed", '--set "seed": expected section.key=value, such as training.max_steps=100'),
        (
            "seed=1",
            "seed: expected a section and a key; did you mean training.seed? (set by --set seed)",
        ),
        (
            "data.path=",
            "data.path: not set; name a text file, such as --set data.path=corpus.txt "
            "(set by --set data.path)",
        ),
    ],
)
@pytest.mark.filterwarnings("default::UserWarning")
def test_a_wrong_setting_ends_with_code_3(
    train: Cli,
    files: Files,
    setting: str,
    message: str,
) -> None:
    before = files()
    result = train(setting)
    last = result.err.splitlines()[-1]
    assert (result.code, last) == (3, f"error: {message}")
    assert files() == before


@pytest.mark.parametrize("kind", ["optimizer", "scheduler", "loss", "tokenizer"])
@pytest.mark.filterwarnings("default::UserWarning")
def test_an_unknown_name_lists_the_known_ones_before_the_text_is_read(
    train: Cli, kind: str
) -> None:
    result = train(f"{kind}.name=nonsense", "data.path=missing.txt")
    assert result.code == 3
    assert f"error: unknown {kind} 'nonsense'. Known: " in result.err


def test_the_nearest_name_is_suggested(train: Cli) -> None:
    result = train("log.sinks=consol")
    assert result.code == 3
    assert result.err.endswith("Did you mean 'console'?\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "bad.txt: expected a text, got an empty file; give a file with text in it"),
        (
            b"abc",
            "bad.txt, training part: dataset: expected at least 17 tokens for one window of "
            "seq_len 16 and its last target, got 2; give a longer text or a smaller seq_len",
        ),
        (
            b"abcdefghij" * 10,
            "bad.txt, validation part: dataset: expected at least 17 tokens for one window of "
            "seq_len 16 and its last target, got 10; give a longer text or a smaller seq_len; or "
            "change data.valid_fraction = 0.1, where 0 trains without validation",
        ),
        (
            b"good\nb\xe4d",
            "bad.txt: expected UTF-8 text, got byte 0xe4 at offset 6 (line 2); convert the file, "
            "for example with iconv -t UTF-8",
        ),
        (
            None,
            "bad.txt: no such file or folder; give the path of a text, JSON lines or tokens",
        ),
    ],
)
def test_a_text_that_cannot_be_used_ends_with_code_1(
    train: Cli,
    folder: Path,
    files: Files,
    content: bytes | None,
    message: str,
) -> None:
    if content is not None:
        (folder / "bad.txt").write_bytes(content)
    before = files()
    result = train("data.path=bad.txt", "data.valid_fraction=0.1")
    assert (result.code, result.err) == (1, f"error: {message}\n")
    assert files() == before


def test_a_bad_validation_text_is_named(train: Cli, folder: Path) -> None:
    (folder / "valid.txt").write_text("too short")
    result = train("data.valid_path=valid.txt")
    assert result.code == 1
    assert result.err.startswith("error: valid.txt: dataset: expected at least 17 tokens")


@pytest.mark.parametrize("tokenizer", ["byte", "char"])
def test_a_text_of_one_character_is_too_short(train: Cli, folder: Path, tokenizer: str) -> None:
    (folder / "one.txt").write_text("a")
    result = train("data.path=one.txt", f"tokenizer.name={tokenizer}")
    assert result.code == 1
    assert result.err.startswith("error: one.txt, training part: dataset: expected at least 17")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "none.toml",
            None,
            "none.toml: there is no such configuration file; give the path of a TOML file, or "
            "none for the default run",
        ),
        (
            "bad.toml",
            "[training]\nseed = = 1\n",
            "bad.toml, line 2, column 8: not valid TOML: invalid value; mend that line",
        ),
        (
            "bad.toml",
            '[data]\npath = "text.txt"\n[training]\nepochs = "3"\n',
            'training.epochs: expected an integer >= 1, got "3" (set by bad.toml)',
        ),
    ],
)
def test_a_bad_configuration_file_ends_with_code_3(
    cli: Cli, folder: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (folder / name).write_text(content)
    result = cli("train", name)
    assert (result.code, result.err) == (3, f"error: {message}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--sett", "a.b=1"], "No such option"),
        (["generate"], "Missing argument"),
        (["generate", "run", "--top-k", "-1"], "Invalid value for '--top-k'"),
        (["generate", "run", "--seed", "x"], "Invalid value for '--seed'"),
        (["generat", "run"], "No such command 'generat'. Did you mean 'generate'?"),
    ],
)
def test_a_usage_error_ends_with_code_2(cli: Cli, arguments: list[str], message: str) -> None:
    result = cli(*arguments)
    assert result.code == 2
    assert message in result.err


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--temperature", "-1", "temperature: expected a number >= 0, got -1.0"),
        ("--temperature", "nan", "temperature: expected a number >= 0, got nan"),
        ("--top-p", "0", "top_p: expected a number in (0, 1], got 0.0"),
        ("--seed", str(2**64), f"seed: expected an integer from 0 to 2^64 - 1, got {2**64}"),
        ("--seed", str(2**200), f"seed: expected an integer from 0 to 2^64 - 1, got {2**200}"),
    ],
)
def test_sampling_out_of_range_ends_with_code_3(
    cli: Cli, flag: str, value: str, message: str
) -> None:
    result = cli("generate", "run", flag, value)
    assert (result.code, result.err) == (3, f"error: {message}\n")


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, True, "3"])
def test_a_seed_that_is_no_key_is_refused(seed: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Sampling(seed=seed)
    assert str(caught.value) == f"seed: expected an integer from 0 to 2^64 - 1, got {seed!r}"
    assert Sampling(seed=2**64 - 1).seed == 2**64 - 1


# --------------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("command", ["generate", "eval"])
def test_a_path_without_a_checkpoint_ends_with_code_1(cli: Cli, folder: Path, command: str) -> None:
    missing, empty = cli(command, "nowhere"), cli(command, str(folder))
    assert missing.err == (
        "error: nowhere: no such checkpoint; give a directory checkpoint-N, or a run directory "
        "that contains one; also a folder of Hugging Face transformers or a GGUF file would do\n"
    )
    assert "holds no checkpoint" in empty.err
    assert (missing.code, empty.code) == (1, 1)


def test_a_checkpoint_of_another_shape_is_refused(train: Cli, trained: Path, files: Files) -> None:
    before = files()
    result = train("model.n_embd=32", more=("--resume", "run"))
    assert result.code == 1
    assert result.err == (
        "error: run/checkpoints/checkpoint-6: made with model.n_embd = 16, this model has 32. "
        "Use the configuration that the checkpoint was made with\n"
    )
    assert files() == before


def test_a_checkpoint_of_another_depth_is_refused(train: Cli, trained: Path) -> None:
    result = train("model.n_layer=2", more=("--resume", "run"))
    assert result.code == 1
    assert result.err.startswith("error: run/checkpoints/checkpoint-6: made with model.n_layer")


def test_a_resumed_text_with_other_characters_is_refused(
    train: Cli, trained: Path, folder: Path
) -> None:
    (folder / "other.txt").write_text("abc\n" * 200)
    result = train("data.path=other.txt", more=("--resume", "run"))
    assert result.code == 1
    assert "made with model.vocab_size = 29, this model has 4" in result.err


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer_state.json"])
def test_a_damaged_checkpoint_is_named(cli: Cli, trained: Path, name: str) -> None:
    path = trained / "checkpoints" / "checkpoint-6" / name
    path.write_bytes(path.read_bytes()[:20])
    result = cli("generate", "run")
    assert result.code == 1
    assert result.err.startswith(f"error: run/checkpoints/checkpoint-6/{name}: the checkpoint is")
    assert result.err.endswith("use an earlier one\n")


def test_a_tokenizer_that_does_not_match_the_model_is_refused(cli: Cli, trained: Path) -> None:
    path = trained / "checkpoints" / "checkpoint-6" / "tokenizer_state.json"
    path.write_text(json.dumps({"name": "byte", "state": {}}))
    reseal(path.parent)
    result = cli("generate", "run")
    assert (result.code, result.err) == (
        1,
        "error: run/checkpoints/checkpoint-6: its tokenizer has 256 ids, its model a vocabulary of "
        "29; the two files are of different runs, use another checkpoint\n",
    )


def test_a_tokenizer_that_is_not_installed_ends_with_code_3(cli: Cli, trained: Path) -> None:
    path = trained / "checkpoints" / "checkpoint-6" / "tokenizer_state.json"
    path.write_text(json.dumps({"name": "runes", "state": {}}))
    reseal(path.parent)
    result = cli("generate", "run")
    assert result.code == 3
    assert result.err.startswith("error: unknown tokenizer 'runes'. Known: ")


@pytest.mark.parametrize("saved", [{"name": "char"}, {"state": {}}, {"name": 1, "state": {}}])
def test_a_tokenizer_file_of_another_kind_is_damage(
    cli: Cli, trained: Path, saved: dict[str, object]
) -> None:
    path = trained / "checkpoints" / "checkpoint-6" / "tokenizer_state.json"
    path.write_text(json.dumps(saved))
    reseal(path.parent)
    result = cli("generate", "run")
    assert (result.code, result.err) == (
        1,
        "error: run/checkpoints/checkpoint-6/tokenizer_state.json: expected a tokenizer's name and "
        "state; the checkpoint is damaged, use an earlier one\n",
    )


@pytest.mark.parametrize(
    ("command", "end"),
    [
        ("generate", "so it cannot write text; put its tokenizer.json into the folder of a "
         "published model, or train with a dataset that has one, or use "
         "tisslm.models.generation with token ids"),
        ("eval", "so it cannot read text; put its tokenizer.json into the folder of a "
         "published model, or train with a dataset that has one, or use "
         "trainer.validate with a dataset of token ids"),
    ],
)  # fmt: skip
def test_a_checkpoint_without_a_tokenizer_has_no_text(
    cli: Cli, trained: Path, command: str, end: str
) -> None:
    path = trained / "checkpoints" / "checkpoint-6"
    for name in ("tokenizer_state.json", "tokenizer.json", "tokenizer_config.json"):
        (path / name).unlink()
    reseal(path)
    result = cli(command, "run")
    assert result.code == 1
    assert result.err.endswith(f": the model has no tokenizer, {end}\n")


def test_a_checkpoint_of_no_transformer_is_refused(cli: Cli, trained: Path) -> None:
    path = trained / "checkpoints" / "checkpoint-6"
    (path / "config.json").write_text("{}")
    reseal(path)
    result = cli("generate", "run")
    assert (result.code, result.err) == (
        1,
        "error: run/checkpoints/checkpoint-6/config.json: expected the configuration of a "
        "Transformer, got another (model.n_layer: a value is needed; set it or choose a preset); "
        "give a checkpoint that tisslm train has written\n",
    )


def test_parameters_of_two_types_are_refused(cli: Cli, trained: Path) -> None:
    path = trained / "checkpoints" / "checkpoint-6" / "model.safetensors"
    arrays = load_file(path)
    name = "transformer.wte.weight"
    save_file({**arrays, name: arrays[name].astype(np.float64)}, path)
    reseal(path.parent)
    result = cli("generate", "run")
    assert result.code == 1
    assert ": expected parameters of one type, got float32 and float64" in result.err


def test_an_unknown_character_in_a_prompt_ends_with_code_1(cli: Cli, trained: Path) -> None:
    result = cli("generate", "run", "-p", "Grün")
    assert result.code == 1
    assert result.err.startswith(
        "error: run: char tokenizer: the character 'G' (U+0047) at position 0"
    )


def test_a_text_with_unknown_characters_is_named(cli: Cli, trained: Path, folder: Path) -> None:
    (folder / "other.txt").write_text("Zebra " * 20)
    result = cli("eval", "run", "--data", "other.txt")
    assert result.code == 1
    assert result.err.startswith("error: other.txt: char tokenizer: the character 'Z'")


# --------------------------------------------------------------------------- other ends


@pytest.mark.filterwarnings("default::UserWarning")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's twins say "overflow"
def test_a_loss_that_is_not_finite_ends_with_code_4(train: Cli, folder: Path) -> None:
    result = train(
        "optimizer.name=sgd",
        "training.learning_rate=1e30",
        "scheduler.name=constant",
        "training.output_dir=run",
        more=("--set", "optimizer.weight_decay=0.1"),
    )
    assert result.code == 4
    assert result.err.splitlines()[-1].startswith("error: step ")
    assert json.loads((folder / "run" / "summary.json").read_text())["status"] == "failed"


def test_a_traceback_is_shown_on_request(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRACEBACK_VARIABLE, "1")
    result = cli("train", "none.toml")
    assert result.code == 3
    assert "Traceback (most recent call last)" in result.err
    assert result.err.splitlines()[-1].startswith("error: none.toml: there is no such")


def test_an_error_of_the_system_is_one_line(train: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(trainer: Trainer) -> None:
        raise OSError(28, "No space left on device", "run/summary.json")

    monkeypatch.setattr(Trainer, "train", full)
    result = train()
    assert (result.code, result.err) == (
        1,
        "error: [Errno 28] No space left on device: 'run/summary.json'\n",
    )


# --------------------------------------------------------------------------- in Python


def tiny_model() -> Transformer:
    return Transformer(
        TransformerConfig(n_layer=1, n_head=1, n_embd=8, seq_len=8, vocab_size=11), seed=1
    )


@pytest.mark.parametrize("bad", [11, -1, 2**40, -(2**40)])
def test_token_ids_out_of_range_are_refused_by_model_and_trainer(bad: int) -> None:
    x = np.zeros((1, 4), dtype=np.int64)
    x[0, 2] = bad
    model = tiny_model()
    before = model.parameters.data.copy()
    trainer = Trainer(model, scheduler="constant", config=TrainingConfig(), sinks=())
    with pytest.raises(DataError, match="token ids: "):
        model.forward(x)
    with pytest.raises(DataError, match="token ids: "):
        trainer.train_step(x, np.zeros_like(x))
    assert np.array_equal(model.parameters.data, before)


@pytest.mark.parametrize("bad", [11, -1])
def test_targets_out_of_range_are_refused(bad: int) -> None:
    model = tiny_model()
    before = model.parameters.data.copy()
    trainer = Trainer(model, scheduler="constant", config=TrainingConfig(), sinks=())
    x = np.zeros((1, 4), dtype=np.int32)
    y = x.copy()
    y[0, 1] = bad
    with pytest.raises(DataError, match="targets: row 1 of the tile is neither -100 nor an id"):
        trainer.train_step(x, y)
    assert np.array_equal(model.parameters.data, before)


def test_token_ids_out_of_range_are_refused_by_the_dataset() -> None:
    with pytest.raises(DataError, match=r"token id 99 at position 2 is not in range\(50\)"):
        TokenDataset([1, 2, 99, 3], 2, vocab_size=50)


def test_a_sequence_longer_than_the_models_is_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        tiny_model().forward(np.zeros((1, 9), dtype=np.int32))
    assert str(caught.value) == (
        "model: expected sequences of at most 8 tokens (model.seq_len), got 9. Cut the sequences "
        "or build a model with a larger seq_len"
    )

"""Where settings come from: default < file < environment < command line."""

from __future__ import annotations

import itertools
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisslm.config import ConfigNote, RunConfig
from tisslm.errors import ConfigError


def write(path: Path, text: str | bytes) -> Path:
    """Write a file and return its path."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def load(*overrides: str, **env: str) -> RunConfig:
    """Load the default run with overrides and variables."""
    return RunConfig.load(None, overrides, env)


@pytest.mark.parametrize("sources", list(itertools.product([False, True], repeat=3)))
def test_the_strongest_source_wins(tmp_path: Path, sources: tuple[bool, bool, bool]) -> None:
    in_file, in_env, in_command = sources
    key = "batch_size = 2" if in_file else ""
    path = write(tmp_path / "run.toml", f"[data]\npath = 'a'\n[training]\n{key}")
    env = {"TISSLM_TRAINING__BATCH_SIZE": "3"} if in_env else {}
    command = ["training.batch_size=4"] if in_command else []
    expected = 4 if in_command else 3 if in_env else 2 if in_file else 32
    assert RunConfig.load(path, command, env).training.batch_size == expected


def test_a_file_replaces_the_default_run(tmp_path: Path) -> None:
    config = RunConfig.load(write(tmp_path / "run.toml", "[data]\npath = 'a'"), env={})
    assert config == RunConfig.from_mapping({"data": {"path": "a"}})
    assert load().data.path == "python-docs"


def test_the_environment_of_the_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TISSLM_TRAINING__SEED", "9")
    assert RunConfig.load().training.seed == 9
    assert RunConfig.from_mapping({"data": {"path": "a"}}).training.seed == 42


def test_other_variables_are_not_settings() -> None:
    config = load(TISSLM_ISA="avx2", TISSLM_DISABLE_PLUGINS="all", TRAINING__SEED="3", HOME="/")
    assert config == load()


def test_the_last_of_two_equal_keys_wins() -> None:
    assert load("training.seed=1", "training.seed=2").training.seed == 2


def test_spellings_meet_before_the_strongest_wins() -> None:
    config = load("training.learning_rate=0.5", TISSLM_OPTIMIZER__LR="0.25")
    assert config.training.learning_rate == 0.5
    with pytest.warns(ConfigNote, match=r"^training\.max_iters is read as training\.max_steps$"):
        assert load("training.max_iters=7").training.max_steps == 7


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("training.max_steps=1e4", "training", "max_steps", 10_000),
        ("training.max-steps=7", "training", "max_steps", 7),
        ("training.seed=0x10", "training", "seed", 16),
        ("training.log_gradients=true", "training", "log_gradients", True),
        ("training.name=2024", "training", "name", "2024"),
        ("training.name=2024-01-02", "training", "name", "2024-01-02"),
        ("training.name=true", "training", "name", "true"),
        ('training.name="a b"', "training", "name", "a b"),
        ("training.name=a b", "training", "name", "a b"),
        ("training.output_dir=", "training", "output_dir", ""),
        ("training.output_dir=runs/a=b", "training", "output_dir", "runs/a=b"),
        ("data.path=1.txt", "data", "path", "1.txt"),
        ("loss.x=1.5", "loss", "x", 1.5),
        ("loss.x=[1, 2]", "loss", "x", [1, 2]),
        ("loss.x=word", "loss", "x", "word"),
        ("loss.x=2024-01-02", "loss", "x", "2024-01-02"),
        ("loss.x=1\nname='focal'", "loss", "x", "1\nname='focal'"),
        ("loss.x.y=1", "loss", "x", {"y": 1}),
        ("log.sinks=console, csv", "log", "sinks", ["console", "csv"]),
        ("log.sinks=[]", "log", "sinks", []),
        ('log.sinks=["csv"]', "log", "sinks", ["csv"]),
    ],
)
def test_values_of_the_shell_are_toml_or_else_text(
    override: str, section: str, key: str, value: object
) -> None:
    found = load(override).resolved()[section][key]
    assert found == value
    assert type(found) is type(value)


@settings(deadline=None)  # the machine may be busy
@given(st.text(st.characters(exclude_characters="\0")))
def test_any_text_of_the_shell_is_a_value(text: str) -> None:
    assert load(f"loss.x=a{text}").loss.options == {"x": f"a{text}".strip()}
    assert load(f"data.path={text}a").data.path in (f"{text}a".strip(), _as_toml(f"{text}a"))


def _as_toml(text: str) -> object:
    try:
        return tomllib.loads(f"x = {text.strip()}")["x"]
    except ValueError:
        return None


def test_minus_one_takes_back_the_limit_of_the_default_run() -> None:
    config = load("training.max_steps=-1", "training.epochs=2")
    assert (config.training.max_steps, config.training.epochs) == (None, 2)


@pytest.mark.parametrize("spelling", ["epochs", "num_train_epochs", "max_epochs"])
@pytest.mark.filterwarnings(r"ignore:training\.\w+ is read as:tisslm.config.ConfigNote")
def test_epochs_take_back_the_limit_of_weaker_sources(spelling: str) -> None:
    words = (
        r"^training\.epochs = 3 counts: training\.max_steps = 1500 of the default configuration "
        "left out$"
    )
    with pytest.warns(ConfigNote, match=words):
        config = load(f"training.{spelling}=3")
    assert (config.training.max_steps, config.training.epochs) == (None, 3)
    with pytest.warns(ConfigNote, match=words):
        assert load(**{f"TISSLM_TRAINING__{spelling.upper()}": "3"}).training.max_steps is None


def test_epochs_leave_a_limit_of_their_own_or_of_a_stronger_source() -> None:
    assert load("training.max_steps=7", "training.epochs=2").training.max_steps == 7
    with pytest.warns(ConfigNote, match=r"max_steps = 1500 of the default configuration left"):
        config = load("training.max_steps=7", TISSLM_TRAINING__EPOCHS="2")
    assert (config.training.max_steps, config.training.epochs) == (7, 2)
    config = load("training.epochs=2", TISSLM_TRAINING__MAX_STEPS="-1")
    assert (config.training.max_steps, config.training.epochs) == (None, 2)


def test_what_somebody_gave_is_of_the_weaker_sources(tmp_path: Path) -> None:
    path = write(tmp_path / "run.toml", "[data]\npath = 'a'\n[training]\nmax_steps = 9")
    with pytest.warns(ConfigNote, match=r"max_steps = 9 of the weaker sources left out$"):
        RunConfig.load(path, ["training.epochs=2"], {})


def test_nested_tables_reach_the_sinks() -> None:
    config = load("log.sinks=csv", "log.csv.path=a.csv")
    assert config.sinks == [("csv", {"path": "a.csv"})]
    config = load(TISSLM_LOG__SINKS="csv", TISSLM_LOG__CSV__PATH="b.csv")
    assert config.sinks == [("csv", {"path": "b.csv"})]


# --------------------------------------------------------------------------- another part


def test_another_part_starts_without_the_options_of_the_one_before() -> None:
    with pytest.warns(
        ConfigNote,
        match=r'^optimizer\.name = "lion" starts \[optimizer\] afresh: beta2, weight_decay of the '
        "default configuration left out$",
    ):
        config = load("optimizer.name=lion", "optimizer.beta1=0.95")
    assert config.optimizer == ("lion", {"beta1": 0.95})
    assert config.training.learning_rate == load().training.learning_rate


def test_naming_the_same_part_keeps_its_options(tmp_path: Path) -> None:
    assert load("optimizer.name=adamw").optimizer == load().optimizer
    path = write(tmp_path / "a.toml", "data.path = 'a'\noptimizer.beta2 = 0.9")
    assert RunConfig.load(path, ["optimizer.name=adamw"], {}).optimizer.options == {"beta2": 0.9}


def test_the_family_of_a_preset_that_is_named_once_more_leaves_it(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.toml", "data.path = 'a'\nmodel = {preset = 'llama-tiny', n_layer = 2}"
    )
    model = RunConfig.load(path, ["model.family=llama"], {}).model
    assert model == {"preset": "llama-tiny", "n_layer": 2, "family": "llama"}
    for other in ("gpt2", "qwen3"):
        with pytest.warns(ConfigNote, match=r"afresh: preset, n_layer of the weaker sources"):
            model = RunConfig.load(path, [f"model.family={other}"], {}).model
        assert model == {"preset": "char-tiny", "family": other}


def test_another_preset_starts_without_the_sizes_of_the_file(tmp_path: Path) -> None:
    sizes = "model = {n_layer = 1, n_head = 1, n_embd = 8, seq_len = 4}"
    path = write(tmp_path / "a.toml", f"data.path = 'a'\n{sizes}")
    with pytest.warns(ConfigNote, match=r'^model\.preset = "gpt2" starts \[model\] afresh'):
        config = RunConfig.load(path, ["model.preset=gpt2", "model.seq_len=8"], {})
    assert config.model == {"preset": "gpt2", "seq_len": 8}
    assert RunConfig.load(path, ["model.seq_len=8"], {}).model["n_layer"] == 1


# --------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "training.seed",
            '--set "training.seed": expected section.key=value, such as training.max_steps=100',
        ),
        (
            "=3",
            '--set "=3": expected section.key=value, such as training.max_steps=100',
        ),
        (
            "training..seed=3",
            '--set "training..seed=3": expected section.key=value, such as training.max_steps=100',
        ),
        (
            "optimizer=lion",
            "optimizer: expected a section and a key; did you mean optimizer.name? "
            "(set by --set optimizer)",
        ),
        (
            "training.seed=x",
            'training.seed: expected an integer from 0 to 2^64 - 1, got "x" '
            "(set by --set training.seed)",
        ),
        (
            "training.seed={}",
            "training.seed: expected an integer from 0 to 2^64 - 1, got a table "
            "(set by --set training.seed)",
        ),
        (
            "training.seeds=3",
            "training.seeds: unknown key; did you mean training.seed? "
            "(set by --set training.seeds)",
        ),
        (
            "optimizer.lr=fast",
            'training.learning_rate: expected a finite number > 0, got "fast" '
            "(set by --set optimizer.lr)",
        ),
        ("trainer.seed=3", "[trainer]: unknown section; did you mean [training]?"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(override)
    assert str(error.value) == message


def test_a_mistake_names_its_source(tmp_path: Path) -> None:
    path = write(tmp_path / "run.toml", "data.path = 'a'\ntraining.epochs = 0")
    with pytest.raises(ConfigError) as error:
        RunConfig.load(path, env={})
    assert str(error.value) == (f"training.epochs: expected an integer >= 1, got 0 (set by {path})")
    with pytest.raises(ConfigError) as error:
        load(TISSLM_TRAINING__BATCH_SIZE="0")
    assert str(error.value) == (
        "training.batch_size: expected an integer >= 1, got 0 "
        "(set by the variable TISSLM_TRAINING__BATCH_SIZE)"
    )
    with pytest.raises(
        ConfigError, match=r"^\[trainer\]: unknown section; did you mean \[training\]"
    ):
        load(TISSLM_TRAINER__EPOCHS="0")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = ", "{}, line 1, column 5: not valid TOML: invalid value; mend that line"),
        (
            "[a]\nb = 1\nb = 2\n",
            "{}, line 3, column 6: not valid TOML: cannot overwrite a value; mend that line",
        ),
        ("x = [\n1,", "{}, line 2, column 3: not valid TOML: invalid value; mend that line"),
        (
            b"a = 1\nb = '\xff'\n",
            "{}, line 2: expected text in UTF-8, got the byte 0xff; save the file as UTF-8",
        ),
        (
            "a = " + "[" * 100_000,
            "{}: not usable TOML: the text, a number or a key is too long, or lists are nested too "
            "deep; shorten it",
        ),
        (
            "a = " + "1" * 5000,
            "{}: not usable TOML: the text, a number or a key is too long, or lists are nested too "
            "deep; shorten it",
        ),
    ],
    ids=["value", "twice", "end", "utf-8", "deep", "long"],
)
def test_bad_toml_is_one_sentence_with_its_place(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    path = write(tmp_path / "bad.toml", text)
    with pytest.raises(ConfigError) as error:
        RunConfig.load(path, env={})
    assert str(error.value) == message.format(path)


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        RunConfig.load(tmp_path / "none.toml", env={})
    assert str(error.value) == (
        f"{tmp_path / 'none.toml'}: there is no such configuration file; give the path of a TOML "
        "file, or none for the default run"
    )
    with pytest.raises(ConfigError) as error:
        RunConfig.load(tmp_path, env={})
    assert str(error.value) == (
        f"{tmp_path}: the configuration cannot be read (Is a directory); give the path of a "
        "readable TOML file"
    )


def test_files_of_other_systems_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "run.toml", b"\xef\xbb\xbf[data]\r\npath = 'a'\r\n")
    assert RunConfig.load(path, env={}).data.path == "a"


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=60))
def test_any_file_is_a_configuration_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = write(tmp_path_factory.getbasetemp() / "any.toml", data)
    with pytest.raises(ConfigError) as error:  # none of them can have data.path
        RunConfig.load(path, env={})
    assert "Traceback" not in str(error.value)

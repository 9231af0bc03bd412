"""RunConfig: sections, their errors, and the round trip through config.resolved.toml."""

from __future__ import annotations

import datetime
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisslm.config import ConfigNote, Part, RunConfig, TrainingConfig
from tisslm.config.toml_text import dump_toml
from tisslm.errors import ConfigError

TEXT: dict[str, Any] = {"data": {"path": "corpus.txt"}}


def test_a_text_is_all_that_is_needed() -> None:
    config = RunConfig.from_mapping(TEXT)
    assert config.model == {"preset": "char-tiny"}
    assert (config.data.path, config.data.valid_path, config.data.valid_fraction) == (
        "corpus.txt",
        "",
        0.1,
    )
    assert config.tokenizer == ("char", {})
    assert config.optimizer == ("adamw", {})
    assert config.scheduler == ("warmup_cosine", {})
    assert config.loss == ("cross_entropy", {})
    assert config.training == TrainingConfig()
    assert config.sinks == [Part("console", {}), Part("jsonl", {})]
    assert config.monitors == []


def test_every_section_is_read() -> None:
    config = RunConfig.from_mapping(
        {
            "model": {"preset": "gpt2", "seq_len": 256, "bias": False, "dropout": 0},
            "data": {"path": "a", "valid_path": "b", "valid_fraction": 0},
            "tokenizer": {"name": "bpe", "path": "tokenizer.json"},
            "optimizer": {"name": "sgd", "momentum": 0.9, "parts": {"a": [1, 2]}},
            "scheduler": {"name": "step", "every": 10},
            "loss": {"name": "focal", "gamma": 2.0},
            "training": {"max_steps": 5},
            "log": {"sinks": ["csv"], "monitors": ["gradient_norms"], "csv": {"path": "m.csv"}},
        }
    )
    assert config.model == {"preset": "gpt2", "seq_len": 256, "bias": False, "dropout": 0.0}
    assert config.tokenizer == ("bpe", {"path": "tokenizer.json"})
    assert config.optimizer == ("sgd", {"momentum": 0.9, "parts": {"a": [1, 2]}})
    assert config.scheduler == ("step", {"every": 10})
    assert config.loss == ("focal", {"gamma": 2.0})
    assert config.training.max_steps == 5
    assert config.sinks == [("csv", {"path": "m.csv"})]
    assert config.monitors == [("gradient_norms", {})]


def test_sizes_stand_in_for_a_preset() -> None:
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 8, "seq_len": 4}
    assert RunConfig.from_mapping(TEXT | {"model": sizes}).model == sizes
    small = RunConfig.from_mapping(TEXT | {"model": {"dropout": 0.1}})
    assert small.model == {"preset": "char-tiny", "dropout": 0.1}


def test_another_dataset_takes_its_own_options() -> None:
    config = RunConfig.from_mapping({"data": {"name": "parquet", "column": "text"}})
    assert config.data.name == "parquet"
    assert config.data.options == {"column": "text"}
    assert RunConfig.from_mapping(config.resolved()) == config


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "data.path: not set; name a text file, such as --set data.path=corpus.txt"),
    (TEXT | {"trainin": {"seed": 1}}, "[trainin]: unknown section; did you mean [training]?"),
    (
        TEXT | {"zzz": {"seed": 1}},
        "[zzz]: unknown section; known: model, data, tokenizer, optimizer, scheduler, loss, "
        "training, durations, adapter, ema, log",
    ),
    (
        TEXT | {"seed": 1},
        "seed: expected a section and a key; did you mean training.seed?",
    ),
    (
        TEXT | {"optimizer": "lion"},
        "optimizer: expected a section and a key; did you mean optimizer.name?",
    ),
    (
        TEXT | {"training": 3},
        "training: expected a section and a key; put it below a [section]",
    ),
    (
        TEXT | {"training": {"n_hidden": 3}},
        "training.n_hidden: unknown key; did you mean model.n_hidden?",
    ),
    (
        TEXT | {"model": {"n_hed": 3}},
        "model.n_hed: unknown key; did you mean model.n_head?",
    ),
    (
        TEXT | {"model": {"num_key_value_head": 3}},
        "model.num_key_value_head: unknown key; did you mean model.n_kv_head?",
    ),
    (
        TEXT | {"model": {"n_layer": 3, "n_head": 1}},
        "model.n_embd: not set; give model.preset, or all of n_layer, n_head, n_embd, seq_len",
    ),
    (
        TEXT | {"model": {"n_layer": 0}},
        "model.n_layer: expected an integer >= 1, got 0",
    ),
    (TEXT | {"model": {"dropout": 1}}, "model.dropout: expected a number in [0, 1), got 1"),
    (TEXT | {"model": {"bias": 0}}, "model.bias: expected true or false, got 0"),
    (TEXT | {"model": {"preset": ""}}, 'model.preset: expected a preset\'s name, got ""'),
    (TEXT | {"model": {"activation": 1}}, "model.activation: expected a string, got 1"),
    (
        TEXT | {"model": {"norm_eps": 0}},
        "model.norm_eps: expected a finite number > 0, got 0",
    ),
    (
        {"data": {"path": "a", "valid_fractoin": 0.2}},
        "data.valid_fractoin: unknown key; did you mean data.valid_fraction?",
    ),
    (
        {"data": {"path": "a", "valid_fraction": 1.0}},
        "data.valid_fraction: expected a number in [0, 1), got 1.0",
    ),
    ({"data": {"path": 3}}, "data.path: expected a path, got 3"),
    (
        {"data": {"name": ""}},
        'data.name: expected a dataset\'s name, got ""',
    ),
    (
        TEXT | {"optimizer": {"name": 3}},
        'optimizer.name: expected a name such as "adamw", got 3; see tisslm plugins for the names',
    ),
    (
        TEXT | {"loss": {"when": datetime.date(2024, 1, 2)}},
        "loss.when: expected a string, number, boolean, list or table, got "
        "datetime.date(2024, 1, 2); put it in quotes",
    ),
    (
        TEXT | {"loss": {"a": {"b": [None]}}},
        "loss.a.b: expected a string, number, boolean, list or table, got nothing; put it in "
        "quotes",
    ),
    (TEXT | {"log": {"sinks": 3}}, "log.sinks: expected a list of names, got 3"),
    (TEXT | {"log": {"sinks": [3]}}, "log.sinks: expected a list of names, got 3"),
    (
        TEXT | {"log": {"sinks": ["csv", "csv"]}},
        'log.sinks: expected different names, got "csv" twice; keep one',
    ),
    (TEXT | {"log": {"sink": ["csv"]}}, "log.sink: unknown key; did you mean log.sinks?"),
    (
        TEXT | {"log": {"csv": {"path": None}}},
        "log.csv.path: expected a string, number, boolean, list or table, got nothing; "
        "put it in quotes",
    ),
    (
        TEXT | {"optimizer": {"lr": 0.1}, "training": {"learning_rate": 0.2}},
        "training.learning_rate: given as optimizer.lr = 0.1 and as training.learning_rate = 0.2; "
        "keep one",
    ),
    (
        TEXT | {"loss": {"x": 2**64}},
        "loss.x: expected an integer of at most 64 bits, got 18446744073709551616",
    ),
    (
        TEXT | {"training": {"batch_size": {"x": 3}}},
        "training.batch_size: expected an integer >= 1, got a table",
    ),
]


@pytest.mark.parametrize(("tables", "message"), WRONG, ids=[m[:60] for _, m in WRONG])
def test_a_mistake_is_one_sentence(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        RunConfig.from_mapping(tables)
    assert str(error.value) == message


@pytest.mark.parametrize("key", ["learning_rate", "lr"])
def test_the_learning_rate_has_one_home(key: str) -> None:
    config = RunConfig.from_mapping(TEXT | {"optimizer": {key: 0.5}})
    assert config.training.learning_rate == 0.5
    assert config.optimizer == ("adamw", {})
    both = {"optimizer": {key: 0.5}, "training": {"learning_rate": 0.5}}
    assert RunConfig.from_mapping(TEXT | both).training.learning_rate == 0.5


@pytest.mark.parametrize(
    ("given_as", "read_as", "value"),
    [
        ("model.block_size", "model.seq_len", 8),
        ("model.num_hidden_layers", "model.n_layer", 8),
        ("model.num_attention_heads", "model.n_head", 8),
        ("model.hidden_size", "model.n_embd", 8),
        ("model.intermediate_size", "model.n_hidden", 8),
        ("model.max_position_embeddings", "model.seq_len", 8),
        ("model.tie_word_embeddings", "model.tie_embeddings", True),
        ("training.max_iters", "training.max_steps", 8),
        ("training.weight_decay", "optimizer.weight_decay", 0.1),
        ("training.adam_beta2", "optimizer.beta2", 0.9),
        ("training.warmup_iters", "scheduler.warmup_steps", 8),
        ("training.lr_decay_iters", "scheduler.max_steps", 8),
        ("training.lr_scheduler_type", "scheduler.name", "cosine"),
        ("training.block_size", "model.seq_len", 8),
        ("training.max_length", "model.seq_len", 8),
        ("scheduler.num_warmup_steps", "scheduler.warmup_steps", 8),
        ("data.val_split", "data.valid_fraction", 0.5),
        ("data.tokenizer", "tokenizer.name", "byte"),
        ("log.logging_steps", "training.logging_steps", 8),
        ("log.report_to", "log.sinks", ["csv"]),
    ],
)
def test_spellings_of_other_trainers_find_their_section(
    given_as: str, read_as: str, value: object
) -> None:
    tables: dict[str, dict[str, Any]] = {"model": {"preset": "gpt2"}, "data": {"path": "a"}}
    section, key = given_as.split(".")
    tables.setdefault(section, {})[key] = value
    with pytest.warns(ConfigNote, match=f"^{given_as} is read as {read_as}$"):
        config = RunConfig.from_mapping(tables)
    section, key = read_as.split(".")
    assert config.resolved()[section][key] == value


def test_a_table_of_a_part_that_is_not_listed_gives_a_note() -> None:
    with pytest.warns(
        ConfigNote,
        match=r"^\[log.csv\] has no effect: log.sinks and log.monitors do not name it$",
    ):
        config = RunConfig.from_mapping(TEXT | {"log": {"csv": {"path": "x"}}})
    assert config.sinks == [("console", {}), ("jsonl", {})]


def test_the_mapping_given_is_not_shared() -> None:
    tables = {"data": {"path": "a"}, "loss": {"x": [1]}}
    config = RunConfig.from_mapping(tables)
    config.loss.options["x"].append(2)
    assert tables["loss"] == {"x": [1]}


# --------------------------------------------------------------------------- resolved

NAMES = st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True).filter(lambda name: name != "name")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
PLAIN = st.one_of(TEXTS, st.booleans(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False))
OPTIONS = st.dictionaries(
    NAMES.map(lambda key: f"opt_{key}"),
    PLAIN | st.lists(PLAIN, max_size=3) | st.dictionaries(NAMES, PLAIN, min_size=1, max_size=2),
    max_size=3,
)
RUNS = st.fixed_dictionaries(
    {
        "data": st.fixed_dictionaries(
            {"path": TEXTS.map(lambda text: f"a{text}".replace("\0", ""))},
            optional={"valid_fraction": st.floats(0, 1, exclude_max=True)},
        ),
        "optimizer": OPTIONS,
        "tokenizer": OPTIONS,
        "training": st.fixed_dictionaries(
            {},
            optional={
                "learning_rate": st.floats(0, 10, exclude_min=True),
                "max_steps": st.integers(1, 2**40),
                "seed": st.integers(0, 2**64 - 1),
                "threads": st.integers(1, 64),
                "log_gradients": st.booleans(),
            },
        ),
        "log": st.fixed_dictionaries({"sinks": st.lists(NAMES, max_size=3, unique=True)}),
    }
)


@settings(deadline=None)  # the machine may be busy
@given(RUNS)
def test_the_resolved_configuration_builds_the_same_run(
    tmp_path_factory: pytest.TempPathFactory, tables: dict[str, Any]
) -> None:
    config = RunConfig.from_mapping(tables)
    path = tmp_path_factory.getbasetemp() / "config.resolved.toml"
    path.write_text(dump_toml(config.resolved()), "utf-8", newline="\n")
    assert tomllib.loads(path.read_text("utf-8")) == config.resolved()
    assert RunConfig.load(path, env={}) == config
    assert RunConfig.from_mapping(config.resolved()) == config


def test_the_resolved_configuration_has_every_value() -> None:
    resolved = RunConfig.from_mapping(TEXT | {"training": {"max_steps": 3}}).resolved()
    assert list(resolved) == [
        "model",
        "data",
        "tokenizer",
        "optimizer",
        "scheduler",
        "loss",
        "training",
        "log",
    ]
    assert set(resolved["training"]) == set(TrainingConfig.model_fields) - {
        "threads",
        "global_batch_size",
        "reduction_parts",
    }
    assert resolved["log"] == {"sinks": ["console", "jsonl"], "monitors": []}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["training.bf16=true", "training.fp16=false"], {"precision": "bf16"}),
        (["training.dtype=bfloat16"], {"precision": "bf16"}),
        (["training.use_mixed_precision=true"], {"precision": "auto"}),
        (["training.gradient_checkpointing=true"], {"activation_checkpointing": "full"}),
        (["training.activation_checkpointing=every=2"], {"activation_checkpointing": "every=2"}),
        (["training.memory_limit=8GiB"], {"memory_limit": "8GiB"}),
        (["training.memory_limit=4096"], {"memory_limit": 4096}),
        (["training.loss_scale=1024"], {"loss_scale": 1024}),
        (["training.max_time=3h30m"], {"max_time": "3h30m"}),
        (["training.max_time=90"], {"max_time": 90}),
        (["training.max_time_per_run=90s"], {"max_time": "90s"}),
        (["training.async_save=true"], {"async_save": True}),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::tisslm.config.ConfigNote")
def test_how_passes_are_run_can_be_set_from_the_shell(
    overrides: list[str], expected: dict[str, Any]
) -> None:
    config = RunConfig.load(None, overrides, env={})
    assert {key: getattr(config.training, key) for key in expected} == expected
    again = RunConfig.from_mapping(config.resolved())
    assert again == config


def test_a_flag_that_is_no_flag_names_its_source() -> None:
    with pytest.raises(
        ConfigError, match=r"^training.bf16: expected true .*\(set by --set training.bf16\)$"
    ):
        RunConfig.load(None, ["training.bf16=2"], env={})

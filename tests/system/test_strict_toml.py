"""TOML is read within limits, wherever it lies."""

from __future__ import annotations

import os
import time

import pytest

from tisslm.cli.tokens.reading import key_values
from tisslm.config import RunConfig
from tisslm.config.model import TransformerConfig
from tisslm.errors import CheckpointError, ConfigError, PluginError
from tisslm.models.transformer import Transformer
from tisslm.registry import load_registry
from tisslm.system.safe_files import CHECKPOINT
from tisslm.system.strict_toml import LARGEST_TOML, parse_toml, parse_value, read_toml


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("#" * (LARGEST_TOML + 1), "it has more than 262144 characters"),
        ("a" + ".a" * 16_000 + "=1", "a key has more than 20 parts"),
        ("a" + ' . "a"' * 16_000 + "=1", "a key has more than 20 parts"),
        ("x = {a" + ".'a'" * 16_000 + "=1}", "a key has more than 20 parts"),
        ("[" + "a." * 5_000 + "a]\n" + "b.c=1\n" * 5_000, "a key has more than 20 parts"),
        ("a = " + "[" * 100_000, "lists are nested too deep"),
        ("a = " + "{a=" * 50_000, "lists are nested too deep"),
        ("a = 1\na = 2", "Cannot overwrite a value"),
        ("a = " + "9" * 5000, "4300 digits"),
        ("a = 0x" + "f" * 5000, "an integer has 20000 bits, more than 64"),
        ("a.b = [1, {c = 0b1" + "0" * 64 + "}]", "an integer has 65 bits, more than 64"),
        ("a = -9223372036854775809", "an integer has 64 bits, more than 64"),
        ('"' * LARGEST_TOML, "Expected|Invalid|Unterminated"),
        ("'a." * 80_000, "Expected|Invalid|Unterminated"),
    ],
    ids=range(14),
)
def test_text_made_to_harm_is_refused_at_once(text, reason):
    began = time.process_time()
    with pytest.raises(ValueError, match=reason):
        parse_toml(text)
    assert time.process_time() - began < 2


def test_the_longest_keys_that_are_read_take_little_time():
    began = time.process_time()
    head = ".".join("a" * 20)
    body = "".join(f"{'b.' * 19}c{i}=1\n" for i in range(LARGEST_TOML // 60))
    assert parse_toml(f"[{head}]\n{body}")
    assert time.process_time() - began < 2


def test_lists_of_fractions_and_paths_are_no_keys():
    text = "a = [" + "0.5, " * 1000 + "]\nb = '" + "x.y/" * 1000 + "'\nc.d.e = 1"
    assert len(parse_toml(text)["a"]) == 1000


def test_a_file_that_is_none_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(CheckpointError, match=r"fifo: .*expected a regular file, got a FIFO\)"):
        read_toml(tmp_path / "fifo", CHECKPOINT)
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises(CheckpointError, match=r"binary: .*\('utf-8' codec can't decode byte 0xff"):
        read_toml(tmp_path / "binary", CHECKPOINT)


def test_a_configuration_is_bounded(tmp_path):
    path = tmp_path / "run.toml"
    path.write_bytes(b"#" * (LARGEST_TOML + 1))
    with pytest.raises(ConfigError) as caught:
        RunConfig.load(path, env={})
    assert str(caught.value) == (
        f"{path}: expected a configuration of at most 262144 bytes, got more; give the path of a "
        "TOML file"
    )
    with pytest.raises(ConfigError, match="/dev/zero: expected a configuration of at most"):
        RunConfig.load("/dev/zero", env={})


@pytest.mark.parametrize("text", ["0x" + "f" * 5000, "[" * 5000, "1\nx = 2", "9" * 5000, "[1"])
def test_what_a_shell_gives_and_is_no_value_stays_a_text(text):
    with pytest.raises(ValueError, match=r"."):
        parse_value(text)
    assert key_values("--tokenizer-option", [f"a={text}"]) == {"a": text}
    with pytest.raises(ConfigError, match=r"^training.batch_size: expected an integer >= 1, got"):
        RunConfig.load(None, [f"training.batch_size={text}"], env={})


@pytest.mark.parametrize("value", [1e300, 10**400, 2**63, -(2**63), float("inf"), float("nan")])
@pytest.mark.parametrize("key", ["max_steps", "batch_size", "save_every", "threads", "epochs"])
def test_no_count_is_beyond_64_bits(key, value):
    with pytest.raises(ConfigError, match=rf"^training\.{key}: expected an integer .*, got "):
        RunConfig.from_mapping({"data": {"path": "x"}, "training": {key: value}})


@pytest.mark.parametrize(
    "key", ["n_layer", "n_head", "n_embd", "seq_len", "vocab_size", "n_hidden"]
)
@pytest.mark.parametrize("value", [2**33, 2**62, 10**400])
def test_no_size_of_a_model_is_beyond_what_an_array_can_have(key, value):
    sizes = {"n_layer": 1, "n_head": 1, "n_embd": 4, "seq_len": 4, "vocab_size": 4, key: value}
    with pytest.raises(ConfigError, match=rf"^model\.{key}: expected an integer .*, got "):
        TransformerConfig(**sizes)


def test_a_plan_that_no_machine_has_is_refused():
    sizes = {"n_layer": 1, "n_head": 1, "n_embd": 2**30, "seq_len": 4, "vocab_size": 4}
    with pytest.raises(
        ConfigError, match=r"^memory: expected arrays of at most 4611686018427387904"
    ):
        Transformer.of_shapes(TransformerConfig(**sizes))


def test_a_long_value_is_not_repeated_whole():
    with pytest.raises(ConfigError) as caught:
        load_registry().build("loss", ("focal", {"gamma": "a" * 5000}))
    assert len(str(caught.value)) < 400
    with pytest.raises(PluginError) as caught:
        load_registry().get("tokenizer", "a" * 100_000)
    assert len(str(caught.value)) < 2000

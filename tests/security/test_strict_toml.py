"""TOML is read within limits, wherever it lies."""

from __future__ import annotations

import os
import time

import pytest

from tisslm.config import RunConfig
from tisslm.errors import CheckpointError, ConfigError
from tisslm.strict_toml import LARGEST_TOML, parse_toml, read_toml
from tisslm.untrusted import CHECKPOINT


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
        ('"' * LARGEST_TOML, "Expected|Invalid|Unterminated"),
        ("'a." * 80_000, "Expected|Invalid|Unterminated"),
    ],
    ids=range(11),
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

"""Checkpoints changed at random, with manifests that verify: they load, or end in our error."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import reseal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tisslm import TokenDataset, Trainer, TrainingConfig, Transformer, TransformerConfig
from tisslm.errors import CheckpointError, TissLMError
from tisslm.loading import load_model
from tisslm.registry import load_registry
from tisslm.tokenizers.char import CharTokenizer

ALPHABET = "abcdefghij"
TEXTS = ["config.json", "tokenizer_state.json", "trainer_state.json"]
ARRAYS = ["model.safetensors", "optimizer.safetensors"]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 12)
    | st.sampled_from([2**31, 2**63, -(2**63), 10**30, 1e300, -1.5, float("inf"), float("nan")])
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=3,
)


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    """A trainer that loads every checkpoint; it must have a tokenizer, dropout and a scheduler."""
    shape = {"n_layer": 1, "n_head": 2, "n_embd": 8, "seq_len": 8, "vocab_size": len(ALPHABET)}
    tokens = np.random.default_rng(1).integers(0, len(ALPHABET), 200).astype(np.uint8)
    return Trainer(
        Transformer(TransformerConfig(**shape, dropout=0.1)),
        scheduler="warmup_cosine",
        dataset=TokenDataset(tokens, 8, vocab_size=len(ALPHABET)),
        tokenizer=CharTokenizer.from_text(ALPHABET),
        sinks=(),
        config=TrainingConfig(
            batch_size=2,
            max_steps=3,
            output_dir=str(tmp_path_factory.mktemp("fuzz") / "run"),
            validation_frequency=0,
        ),
    )


@pytest.fixture(scope="module")
def good(trainer):
    trainer.train()
    return trainer.run.checkpoints / "checkpoint-3"


@pytest.fixture(scope="module")
def registry():
    return load_registry()


def places(value: Any, path: tuple = ()):
    """Yield the path of every value in nested JSON."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def changed_value(draw, content: bytes) -> bytes:
    value = json.loads(content)
    path = draw(st.sampled_from(list(places(value))[1:]))
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    if draw(st.integers(0, 4)) == 0:
        del parent[path[-1]]
    else:
        parent[path[-1]] = draw(VALUES)
    return json.dumps(value).encode()


def changed_bytes(draw, content: bytes, limit: int) -> bytes:
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, min(limit, len(data)) - 1))
        data[at] = draw(st.sampled_from(b'"{}[],:0123456789e-. \x00\xff') | st.integers(0, 255))
    return bytes(data)


@st.composite
def changes(draw):
    """Return a function that gives the new content of one file, and the file's name."""
    name = draw(st.sampled_from(TEXTS * 2 + ARRAYS))
    if name in TEXTS and draw(st.booleans()):
        return name, lambda content: changed_value(draw, content)
    return name, lambda content: changed_bytes(draw, content, 2000)


def load_or_refuse(load) -> None:
    message = "it loaded"
    try:
        load()
    except TissLMError as error:
        message = str(error)
    assert 0 < len(message) < 3000


@settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(changes())
@pytest.mark.filterwarnings("ignore:the run goes on under other conditions:RuntimeWarning")
def test_a_changed_checkpoint_loads_or_ends_in_our_error(
    trainer, good, registry, tmp_path_factory, change
):
    name, new = change
    folder: Path = tmp_path_factory.getbasetemp() / "fuzzed" / "checkpoint-3"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(good, folder)
    (folder / name).write_bytes(new((folder / name).read_bytes()))
    reseal(folder)
    load_or_refuse(lambda: load_model(folder, registry=registry))
    load_or_refuse(lambda: trainer.load_checkpoint(folder))


def test_a_changed_checkpoint_that_is_refused_changes_nothing(trainer, good, tmp_path):
    folder = tmp_path / "checkpoint-3"
    shutil.copytree(good, folder)
    trainer.load_checkpoint(good)
    before = trainer.model.parameters.data.copy()
    state = json.loads((folder / "trainer_state.json").read_bytes())
    del state["global_step"]
    (folder / "trainer_state.json").write_text(json.dumps(state))
    arrays = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(arrays[:-4] + b"\x00\x00\x80?")
    reseal(folder)
    with pytest.raises(CheckpointError, match="not the state of a trainer"):
        trainer.load_checkpoint(folder)
    assert np.array_equal(before, trainer.model.parameters.data)

"""Encoders by their paths: from a language model, back from a checkpoint, and refused elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from embedding_runs import VOCAB, Examples, InBatch, shape_of, trainer_of
from model_folders import model_of, save

from tisslm import TokenDataset, Trainer, Transformer, TransformerConfig
from tisslm.cli.main import main
from tisslm.config import TrainingConfig
from tisslm.contracts import TextBatch
from tisslm.errors import ConfigError
from tisslm.models.encoder.text_encoder import TextEncoder
from tisslm.registry import load_registry
from tisslm.workflows.load_model import load_model
from tisslm.workflows.open_model import open_model

TEXTS = [np.array([3, 1, 4, 1], np.int32), np.array([5, 9], np.int32)]


def run_of_tokens(folder: Path, **changes: object) -> Trainer:
    shape = {**shape_of().values(), "pooling": "none", **changes}
    config = TrainingConfig(max_steps=1, batch_size=2, output_dir=str(folder / "run"))
    data = TokenDataset(np.arange(200, dtype=np.uint16) % VOCAB, 20, vocab_size=VOCAB)
    trainer = Trainer(Transformer(TransformerConfig(**shape)), "adamw", dataset=data, config=config)
    trainer.train()
    return trainer


def test_a_checkpoint_of_an_encoder_comes_back(tmp_path: Path) -> None:
    shape = {"projection": 6, "logit_scale": 5.0, "pooling": "max"}
    trainer = trainer_of(tmp_path, Examples(), InBatch(learned=True), shape=shape)
    trainer.train()
    opened = open_model(tmp_path / "run", load_registry())
    model = opened.build(opened.shape({}))
    assert isinstance(model, TextEncoder)
    assert model.settings() == trainer.model.settings()
    batch = TextBatch.pack(TEXTS, 20)
    assert model.embed(batch)[0].tobytes() == trainer.model.embed(batch)[0].tobytes()
    assert float(model.logit_scale.data[0]) != np.float32(np.log(5.0))


@pytest.mark.parametrize("normalize", [True, False])
def test_an_encoder_says_whether_its_vectors_have_length_one(normalize: bool) -> None:
    model = TextEncoder(TransformerConfig(**{**shape_of().values(), "normalize": normalize}))
    lengths = np.linalg.norm(model.embed(TextBatch.pack(TEXTS, 20))[0], axis=1)
    assert model.normalized is normalize
    assert bool(np.allclose(lengths, 1.0)) is normalize


@pytest.mark.parametrize("tied", [True, False])
def test_an_encoder_starts_from_a_language_model_without_its_head(
    tmp_path: Path, tied: bool
) -> None:
    trainer = run_of_tokens(tmp_path, tie_embeddings=tied)
    opened = open_model(tmp_path / "run", load_registry())
    given = {"pooling": "mean", "projection": 6, "logit_scale": 20.0}
    model = opened.build(opened.shape(given), seed=4)
    assert isinstance(model, TextEncoder)
    origin, drawn = trainer.model.parameters.state(), TextEncoder(model.config, seed=4)
    for name, array in model.parameters.state().items():
        expected = origin[name] if name in origin else drawn.parameters[name].data
        np.testing.assert_array_equal(array, expected, err_msg=name)
    assert set(model.parameters.state()) - set(origin) == {
        "pooling.projection.weight",
        "pooling.logit_scale",
    }


def test_a_published_model_becomes_an_encoder(tmp_path: Path) -> None:
    save(model_of("llama"), tmp_path / "folder")
    model = TextEncoder.from_pretrained(tmp_path / "folder", pooling="last", seq_len=8)
    origin = Transformer.from_pretrained(tmp_path / "folder")
    found = model.parameters["blocks.0.mlp.up.weight"].data
    np.testing.assert_array_equal(found, origin.parameters["blocks.0.mlp.up.weight"].data)
    assert (model.config.pooling, model.seq_len, model.family) == ("last", 8, "llama")
    with pytest.raises(ConfigError, match=r"model\.pooling: expected .mean., .last. or .max., got"):
        TextEncoder.from_pretrained(tmp_path / "folder")


def test_an_encoder_keeps_its_pooling(tmp_path: Path) -> None:
    trainer_of(tmp_path, shape={"projection": 6}).train()
    opened = open_model(tmp_path / "run", load_registry())
    assert opened.shape({"pooling": "mean", "projection": 6}) == opened.shape({})
    with pytest.raises(ConfigError, match=r"model\.projection: expected what .* has, since"):
        opened.shape({"projection": 7})


def test_commands_for_language_models_refuse_an_encoder_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer_of(tmp_path).train()
    run = tmp_path / "run"
    with pytest.raises(ConfigError, match="expected a language model, got one that makes vectors"):
        load_model(run)
    for command in (["generate", str(run)], ["chat", str(run)]):
        with pytest.raises(SystemExit):
            main(command)
        text = " ".join(capsys.readouterr().err.split())
        assert "expected a language model, got one that makes vectors of texts" in text, command

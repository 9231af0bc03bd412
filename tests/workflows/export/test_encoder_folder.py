"""An encoder as a folder of sentence-transformers: its files, and the way back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedding_runs import shape_of, trainer_of

from tisslm.errors import CheckpointError, ConfigError
from tisslm.models.encoder.text_encoder import TextEncoder
from tisslm.system.durable import DISK
from tisslm.tokenizers import BpeTokenizer, ByteTokenizer
from tisslm.workflows.embedding import load_encoder
from tisslm.workflows.export import TextForm, export, write_folder

FORM = TextForm(12, {"query": "q: "}, "dot")


def encoder(**changes: Any) -> TextEncoder:
    return TextEncoder(shape_of(vocab_size=256, **changes), seed=3)


def files_of(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("family", ["gpt2", "llama", "mistral", "qwen2", "qwen3", "gpt_neox"])
@pytest.mark.parametrize(
    "changes",
    [
        {"pooling": "mean", "causal": False},
        {"pooling": "last", "projection": 6, "logit_scale": 20.0},
        {"pooling": "max", "normalize": False, "projection": 24},
    ],
    ids=lambda changes: changes["pooling"],
)
def test_it_comes_back_to_the_bit(tmp_path: Path, family: str, changes: dict[str, Any]) -> None:
    model = encoder(family=family, **changes)
    size, notes = write_folder(tmp_path / "out", model, ByteTokenizer(), texts=FORM)
    assert notes == []
    found = files_of(tmp_path / "out")
    assert size == sum((tmp_path / "out" / name).stat().st_size for name in found)
    assert found == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json",
        "1_Pooling/config.json",
        *(("2_Dense/config.json", "2_Dense/model.safetensors") if "projection" in changes else ()),
    }  # fmt: skip
    again = load_encoder(tmp_path / "out")
    assert isinstance(again.model, TextEncoder)
    for key in ("pooling", "causal", "projection", "normalize", "family", "seq_len", "n_embd"):
        assert getattr(again.model.config, key) == getattr(model.config, key)
    for parameter in again.model.parameters:
        assert np.array_equal(parameter.data, model.parameters[parameter.name].data)
    names = {parameter.name for parameter in model.parameters} - {"pooling.logit_scale"}
    assert {parameter.name for parameter in again.model.parameters} == names


def test_what_is_said_of_texts(tmp_path: Path) -> None:
    write_folder(tmp_path / "out", encoder(projection=6), ByteTokenizer(), texts=FORM)

    def read(name: str) -> Any:
        return json.loads((tmp_path / "out" / name).read_text())

    assert read("config_sentence_transformers.json") == {
        "prompts": {"query": "q: "},
        "default_prompt_name": None,
        "similarity_fn_name": "dot",
    }
    assert read("sentence_bert_config.json")["max_seq_length"] == 12
    assert read("tokenizer_config.json")["model_max_length"] == 12
    assert [(m["path"], m["type"].split(".")[-1]) for m in read("modules.json")] == [
        ("", "Transformer"),
        ("1_Pooling", "Pooling"),
        ("2_Dense", "Dense"),
        ("3_Normalize", "Normalize"),
    ]
    assert read("config.json")["tie_word_embeddings"] is True


def test_a_run_is_exported_and_a_run_starts_from_the_folder(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, shape={"pooling": "max", "projection": 6}, sinks=())
    trainer.train()
    done = export(trainer.run.path, tmp_path / "out")
    assert done.notes == ["sentence-transformers opens no folder without a tokenizer; add one"]
    start = TextEncoder.from_pretrained(tmp_path / "out", logit_scale=20.0)
    assert start.config.pooling == "max"
    for parameter in trainer.model.parameters:
        assert np.array_equal(parameter.data, start.parameters[parameter.name].data)
    with pytest.raises(ConfigError, match=r"model\.pooling: expected what .* has, since its weigh"):
        TextEncoder.from_pretrained(tmp_path / "out", pooling="mean")
    with pytest.raises(ConfigError, match="vectors of texts"):
        export(trainer.run.path, tmp_path / "m.gguf", form="gguf")
    assert not (tmp_path / "m.gguf").exists()


def test_an_export_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, shape={"projection": 6}, sinks=())
    trainer.train()
    out = tmp_path / "out"
    export(trainer.run.path, out)
    export(trainer.run.path, out, force=True)
    (out / "1_Pooling" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"got '1_Pooling/notes.txt' there, which would be lost"):
        export(trainer.run.path, out, force=True)
    (out / "1_Pooling" / "notes.txt").unlink()
    (out / "tokenizer.json").mkdir()
    with pytest.raises(ConfigError, match=r"got 'tokenizer.json' there, which would be lost"):
        export(trainer.run.path, out, force=True)


def test_a_disk_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = DISK.write_file

    def full(path: Path, blocks: Any) -> Any:
        if path.parent.name == "2_Dense":
            raise OSError(28, os.strerror(28))
        return write(path, blocks)

    monkeypatch.setattr(DISK, "write_file", full)
    with pytest.raises(CheckpointError, match=r"could not be written"):
        write_folder(tmp_path / "out", encoder(projection=6), None)
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_that_has_no_class_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a model that Hugging Face transformers has a"):
        write_folder(tmp_path / "out", encoder(family="gpt2", positions="none"), None)
    assert list(tmp_path.iterdir()) == []


def test_a_bpe_tokenizer_comes_along(tmp_path: Path) -> None:
    tokenizer = BpeTokenizer.from_text("a few words, a few" * 9, vocab_size=256)
    write_folder(tmp_path / "out", encoder(), tokenizer)
    assert load_encoder(tmp_path / "out").tokenizer.encode("a few") == tokenizer.encode("a few")

"""Modules of sentence-transformers: both of their forms are read, and what we lack is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedding_runs import shape_of

from tisslm.errors import CheckpointError
from tisslm.models.encoder.text_encoder import TextEncoder
from tisslm.models.huggingface.sentence_transformers import read_text_form
from tisslm.workflows.export import write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path / "out", TextEncoder(shape_of(projection=6), seed=1), None)
    return tmp_path / "out"


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def modules(folder: Path, *listed: tuple[str, str]) -> None:
    (folder / "modules.json").write_text(
        json.dumps([{"idx": 0, "path": path, "type": kind} for path, kind in listed])
    )


FIRST, POOLING = ("", "sentence_transformers.models.Transformer"), ("1_Pooling", "x.Pooling")


@pytest.mark.parametrize(
    ("mode", "ours"), [("mean", "mean"), ("lasttoken", "last"), ("max", "max")]
)
def test_the_form_of_version_6_is_read(folder: Path, mode: str, ours: str) -> None:
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"embedding_dimension": 16, "pooling_mode": mode, "include_prompt": True})
    )
    modules(
        folder,
        ("", "sentence_transformers.base.modules.transformer.Transformer"),
        ("1_Pooling", "sentence_transformers.sentence_transformer.modules.pooling.Pooling"),
        ("2_Dense", "sentence_transformers.base.modules.dense.Dense"),
    )
    config = TextEncoder.from_pretrained(folder).config
    assert (config.pooling, config.projection, config.normalize) == (ours, 6, False)


def test_a_model_without_a_head_is_the_body_of_an_encoder(folder: Path) -> None:
    """As sentence-transformers saves it: no output matrix, and no word that there is none."""
    values = json.loads((folder / "config.json").read_text())
    del values["tisslm"]
    (folder / "config.json").write_text(json.dumps({**values, "tie_word_embeddings": False}))
    found = TextEncoder.from_pretrained(folder)
    assert np.isfinite(found.parameters.data).all()


def test_what_is_made_of_texts_is_read(folder: Path) -> None:
    said, cut = folder / "config_sentence_transformers.json", folder / "sentence_bert_config.json"
    change(said, prompts={"query": "q: ", "sts": "x"}, similarity_fn_name="dot")
    change(cut, max_seq_length=7)
    assert read_text_form(folder) == {
        "prompts": {"query": "q: ", "sts": "x"},
        "similarity_name": "dot",
        "max_tokens": 7,
    }
    for path, words, values in (
        (said, r"prompts: expected a table of texts", {"prompts": {"query": 1}}),
        (said, r"default_prompt_name: expected null", {"default_prompt_name": "query"}),
        (said, r"similarity_fn_name: expected cosine or dot, .* 'euclidean'",
         {"similarity_fn_name": "euclidean"}),
        (cut, r"max_seq_length: expected an integer >= 1", {"max_seq_length": -1}),
    ):  # fmt: skip
        kept = path.read_text()
        change(path, **values)
        with pytest.raises(CheckpointError, match=words):
            read_text_form(folder)
        path.write_text(kept)
    cut.unlink()
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 5}')
    assert read_text_form(folder)["max_tokens"] == 5
    (folder / "modules.json").unlink()
    assert read_text_form(folder) == {}


def test_what_encoders_here_do_not_have_is_refused(folder: Path) -> None:
    pooling, dense = folder / "1_Pooling" / "config.json", folder / "2_Dense" / "config.json"
    kept = {path: path.read_text() for path in (pooling, dense, folder / "modules.json")}

    def refused(words: str) -> None:
        with pytest.raises(CheckpointError, match=words):
            TextEncoder.from_pretrained(folder)
        for path, text in kept.items():
            path.write_text(text)

    change(pooling, pooling_mode_cls_token=True)
    refused(r"pooling: expected one of mean, last, max, which encoders here have, got")
    change(pooling, pooling_mode="weightedmean")
    refused(r"pooling: expected one of .*, got 'weightedmean'; use another model")
    change(pooling, include_prompt=False)
    refused(r"include_prompt: expected true")
    change(dense, bias=True)
    refused(r"2_Dense/config\.json: bias: expected false")
    change(dense, activation_function="torch.nn.modules.activation.Tanh")
    refused(r"activation_function: expected the identity, .*, got 'torch.*Tanh'")
    change(dense, out_features="6")
    refused(r"out_features: expected an integer >= 1")
    change(dense, out_features=7)
    refused(r"an array pooling.projection.weight of shape \(7, 16\), got one of \(6, 16\)")
    modules(folder, FIRST)
    refused(r"modules: expected Transformer, Pooling, Dense, Normalize, the first in this folder")
    modules(folder, POOLING, FIRST)
    refused(r"modules: expected Transformer, Pooling")
    modules(folder, FIRST, POOLING, ("2_LayerNorm", "x.LayerNorm"))
    refused(r"type: expected one each of Transformer, .*, got 'LayerNorm'")
    modules(folder, FIRST, POOLING, POOLING)
    refused(r"type: expected one each of")
    for path in ("../1_Pooling", "..", "/etc"):
        modules(folder, FIRST, (path, "x.Pooling"))
        refused(r"path: expected the name of a folder beside it")
    (folder / "modules.json").write_text("{")
    refused(r"modules\.json: the encoder cannot be read")
    (folder / "modules.json").write_text("[1, 2]")
    refused(r"path: expected the name of a folder")
    (folder / "2_Dense" / "model.safetensors").unlink()
    refused(r"the encoder cannot be read")

"""Checkpoints are folders that transformers opens: its loss on our validation data is ours."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from tisslm.config import RunConfig
from tisslm.registry import load_registry
from tisslm.training.evaluation import evaluate
from tisslm.workflows.build.data import load_validation
from tisslm.workflows.build.trainer import build_trainer
from tisslm.workflows.load_model import load_model

transformers = pytest.importorskip("transformers", reason="make interop brings transformers")
torch = pytest.importorskip("torch", reason="make interop brings PyTorch")

TEXT = "".join(f"{i} grüne Flaschen stehen\n\ton the wall, {i * i} fall.\n" for i in range(150))
SHAPES = {
    "gpt2": {"n_head": 4},
    "llama": {"n_head": 4, "n_kv_head": 2, "tie_embeddings": True},
    "mistral": {"n_head": 4, "n_kv_head": 2, "window": 12},
    "qwen2": {"n_head": 4, "n_kv_head": 2},
    "qwen3": {"n_head": 4, "n_kv_head": 2, "head_dim": 16, "tie_embeddings": True},
    "gpt_neox": {"n_head": 4},
}
TOKENIZERS = {
    "char": {"name": "char"},
    "byte": {"name": "byte"},
    "bpe": {"name": "bpe", "vocab_size": 320, "special_tokens": ["<|endoftext|>"]},
}
CASES = [(family, "bpe") for family in SHAPES] + [("gpt2", "char"), ("llama", "byte")]
CASES += [("llama", "char"), ("qwen3", "char"), ("gpt_neox", "byte")]


@pytest.mark.parametrize(("family", "tokenizer"), CASES)
def test_transformers_gives_our_validation_loss(tmp_path, family, tokenizer):
    (tmp_path / "text.txt").write_text(TEXT)
    config = RunConfig.from_mapping(
        {
            "model": {
                "family": family,
                "n_layer": 2,
                "n_embd": 32,
                "seq_len": 24,
                **SHAPES[family],
            },
            "tokenizer": TOKENIZERS[tokenizer],
            "data": {"path": str(tmp_path / "text.txt"), "valid_fraction": 0.2},
            "training": {
                "max_steps": 30,
                "batch_size": 8,
                "learning_rate": 1e-2,
                "output_dir": str(tmp_path / "run"),
            },
            "log": {"sinks": []},
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        build_trainer(config).train()
    folder = tmp_path / "run/checkpoints/checkpoint-30"
    model, ours = load_model(folder)
    registry = load_registry()
    dataset = load_validation(config, ours, model.seq_len, registry)
    expected = evaluate(model, dataset, registry.build("loss", "cross_entropy"), batch_size=8)

    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert theirs.config.model_type == family
    rows = [dataset.window(i) for i in range(len(dataset))]
    x = torch.from_numpy(np.stack([row.x for row in rows]).astype(np.int64))
    y = torch.from_numpy(np.stack([row.y for row in rows]).astype(np.int64))
    with torch.no_grad():
        logits = theirs(x).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).double(), y.flatten())
    assert expected.loss < np.log(model.vocab_size) - 0.5  # it has learned something
    assert abs(float(loss) - expected.loss) < 1e-5 * expected.loss

    # For qwen2, AutoTokenizer of transformers 5 cuts texts as Qwen2 does, whatever the files say.
    reader_class = "PreTrainedTokenizerFast" if family == "qwen2" else "AutoTokenizer"
    reader = getattr(transformers, reader_class).from_pretrained(folder)
    for text in (TEXT, "Flaschen  fall.\n\n", " \t7"):
        assert reader(text, add_special_tokens=False)["input_ids"] == ours.encode(text)
        assert reader.decode(ours.encode(text)) == text

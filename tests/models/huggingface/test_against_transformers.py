"""Folders both ways: what Hugging Face transformers saves is read here, and what we write there.

Needs transformers and PyTorch: ``pip install tisslm[test-transformers]``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_folders import SIZES, model_of, save, write_config
from numpy.typing import NDArray
from tolerances import largest_error
from transformers_models import peer_of

from tisslm import Transformer, TransformerConfig
from tisslm.models.huggingface.configuration import shape_of
from tisslm.models.huggingface.names import FAMILIES

torch = pytest.importorskip("torch", reason="needs pip install tisslm[test-transformers]")
transformers = pytest.importorskip(
    "transformers", reason="needs pip install tisslm[test-transformers]"
)

Array = NDArray[Any]

#: What the project promises of logits, relative to the largest; two blocks round by about 1e-6.
LOGITS = 1e-5

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 20}
IN_TURNS = ["full_attention", "sliding_attention"]

CASES: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "gpt2 untied": {"tie_embeddings": False, "activation": "gelu_tanh", "n_hidden": 48},
    "llama": {"n_kv_head": 2},
    "llama tied": {"tie_embeddings": True, "n_kv_head": 1, "rope_scaling": LLAMA3},
    "llama biases": {"bias": True, "head_dim": 12, "activation": "geglu"},
    "llama linear": {"rope_scaling": {"rope_type": "linear", "factor": 2.0}, "rope_theta": 5e5},
    "mistral": {"n_kv_head": 2, "window": 7, "head_dim": 12},
    "mistral tied": {"tie_embeddings": True},
    "qwen2": {"n_kv_head": 2, "window": 5, "layer_types": IN_TURNS},
    "qwen2 tied": {"tie_embeddings": True, "rope_scaling": YARN},
    "qwen3": {"n_kv_head": 2, "head_dim": 16},
    "qwen3 tied": {"tie_embeddings": True, "window": 5, "layer_types": IN_TURNS},
    "gpt_neox": {},
    **{f"{family} both ways": {"causal": False} for family in FAMILIES},
    "gpt_neox tied": {"tie_embeddings": True, "rotary_fraction": 0.5, "parallel_residual": False},
}

#: Shapes whose class there has biases that they lack.
ZEROS: dict[str, dict[str, Any]] = {
    "gpt2 no bias": {"bias": False},
    "gpt2 some biases": {"qkv_bias": False, "norm_bias": False, "activation": "relu2"},
    "llama half a bias": {"qkv_bias": True},
    "qwen2 no bias": {"qkv_bias": False},
    "qwen3 half a bias": {"out_bias": True},
    "gpt_neox no bias": {"bias": False, "activation": "silu"},
}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def made(name: str) -> Transformer:
    keys = {**CASES, **ZEROS}[name]
    return model_of(name.split()[0], seq_len=40, **keys)


def peer(model: Transformer) -> Any:
    return peer_of(model.config, model.parameters.state(), "float32")


def rows(model: Transformer) -> Array:
    rng = np.random.default_rng(2)
    return rng.integers(0, model.vocab_size, (2, min(40, model.seq_len)), dtype=np.int32)


def logits_there(there: Any, x: Array) -> Array:
    with torch.no_grad():
        found: Array = there.eval()(torch.from_numpy(x.astype(np.int64))).logits.float().numpy()
    return found


def load_there(folder: Path, **more: Any) -> Any:
    """Return the model that transformers makes of a folder, none of whose arrays it misses."""
    load = transformers.AutoModelForCausalLM.from_pretrained
    found, info = load(folder, output_loading_info=True, **more)
    assert not any(info.values()), info
    return found


@pytest.mark.parametrize("form", ["whole", "sharded", "bfloat16", "float16"])
@pytest.mark.parametrize("name", CASES)
def test_a_folder_that_transformers_saved_gives_its_logits(tmp_path, name, form):
    model, whole = made(name), form in ("whole", "sharded")
    there = peer(model) if whole else peer(model).to(getattr(torch, form))
    there.save_pretrained(tmp_path, **({"max_shard_size": "20KB"} if form == "sharded" else {}))
    assert (tmp_path / "model.safetensors.index.json").exists() == (form == "sharded")
    found, x = Transformer.from_pretrained(tmp_path), rows(model)
    reloaded = load_there(tmp_path, dtype=torch.float32)
    assert largest_error(found.forward(x)[0], logits_there(reloaded, x)) <= LOGITS
    if whole:
        assert found.exchange().config == {
            **model.exchange().config,
            "tisslm": found.exchange().config["tisslm"],  # positions are said in full
        }
        for parameter in model.parameters:
            there_ = found.parameters[parameter.name].data
            np.testing.assert_array_equal(there_, parameter.data)


@pytest.mark.parametrize("dtype", ["float32", "uint16"])
@pytest.mark.parametrize("name", [*CASES, *ZEROS])
def test_a_folder_of_ours_gives_our_logits_there(tmp_path, name, dtype):
    model = made(name)
    save(model, tmp_path, dtype=dtype)
    found, x = Transformer.from_pretrained(tmp_path), rows(model)
    there = load_there(tmp_path, dtype=torch.float32)
    assert type(there).__name__ == found.exchange().config["architectures"][0]
    assert largest_error(found.forward(x)[0], logits_there(there, x)) <= LOGITS
    assert found.config == model.config
    there.save_pretrained(tmp_path / "again")
    again = Transformer.from_pretrained(tmp_path / "again")
    assert again.config == model.config
    assert again.parameters.data.tobytes() == found.parameters.data.tobytes()


@pytest.mark.parametrize("name", ["llama tied", "llama linear", "qwen2 tied", "qwen3", "gpt_neox"])
def test_the_spelling_of_before_2025_means_the_same_to_both(tmp_path, name):
    model = made(name)
    save(model, tmp_path, own=False)
    content = json.loads((tmp_path / "config.json").read_text())
    parameters = content.pop("rope_parameters")
    assert ("rope_theta" in content) == (name != "gpt_neox")
    write_config(tmp_path, content)
    x, ours = rows(model), Transformer.from_pretrained(tmp_path)
    assert largest_error(ours.forward(x)[0], logits_there(load_there(tmp_path), x)) <= LOGITS
    new = {k: v for k, v in content.items() if not k.startswith("rot") and "rope" not in k}
    write_config(tmp_path, {**new, "rope_parameters": parameters})
    assert Transformer.from_pretrained(tmp_path).config == ours.config
    assert largest_error(logits_there(load_there(tmp_path), x), ours.forward(x)[0]) <= LOGITS


SMALL = {
    "hidden_size": 64,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 32,
    "max_position_embeddings": 40,
    "vocab_size": 11,
}


@pytest.mark.parametrize("family", ["gpt2", "llama", "mistral", "qwen2", "qwen3", "gpt_neox"])
def test_keys_that_a_file_leaves_out_have_the_defaults_of_their_class(tmp_path, family):
    sizes = dict(SMALL, num_attention_heads=8 if family == "gpt_neox" else 32)
    if family == "gpt2":
        sizes = {"n_embd": 64, "n_layer": 2, "n_head": 8, "n_positions": 40, "vocab_size": 11}
    content = {"model_type": family, **sizes}
    write_config(tmp_path, content)
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    there = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in there.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=torch.manual_seed(1))
    there.save_pretrained(tmp_path)
    full = shape_of(json.loads((tmp_path / "config.json").read_text()), "full")
    write_config(tmp_path, content)
    found = Transformer.from_pretrained(tmp_path)
    assert found.config == full
    x = rows(found)
    assert largest_error(found.forward(x)[0], logits_there(there, x)) <= LOGITS


def test_sizes_of_gpt2_have_other_names_too(tmp_path):
    model = made("gpt2")
    save(model, tmp_path, own=False)
    content = json.loads((tmp_path / "config.json").read_text())
    del content["n_ctx"]
    for name, other in {
        "n_embd": "hidden_size",
        "n_layer": "num_hidden_layers",
        "n_head": "num_attention_heads",
        "n_positions": "max_position_embeddings",
    }.items():
        content[other] = content.pop(name)
    write_config(tmp_path, content)
    x, found = rows(model), Transformer.from_pretrained(tmp_path)
    assert largest_error(found.forward(x)[0], logits_there(load_there(tmp_path), x)) <= LOGITS


def test_a_head_that_is_not_tied_after_all_is_not_taken_for_the_embedding(tmp_path):
    """transformers unties them with a warning; here somebody has to say which is meant."""
    config = TransformerConfig(**{**SIZES, "family": "llama", "tie_embeddings": False})
    peer_of(config, model_of("llama").parameters.state(), "float32").save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    write_config(tmp_path, {**content, "tie_word_embeddings": True})
    with pytest.raises(Exception, match="set tie_word_embeddings to false"):
        Transformer.from_pretrained(tmp_path)

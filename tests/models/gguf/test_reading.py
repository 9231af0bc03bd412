"""Files whose metadata or tensors are not those of a model that is computed here."""

from __future__ import annotations

import time

import numpy as np
import pytest
from gguf_models import SIZES, model_of

from tisslm.errors import CheckpointError
from tisslm.models.gguf import read_gguf, write_gguf
from tisslm.system.gguf_files import GgufFile, Tensor, gguf_chunks
from tisslm.system.gguf_files.kinds import tensor_kind


def changed(path, case, metadata=(), without=(), **tensors):
    """Write a file of a model with other metadata or tensors; None takes a key away."""
    write_gguf(path, model_of(case), None)
    file = GgufFile(path)
    keys = {**file.metadata, **dict(metadata)}
    made = {
        name: Tensor(place.shape, place.kind, lambda name=name: file[name])
        for name, place in file.tensors.items()
        if name not in without
    }
    made |= {
        name.replace("__", "."): Tensor(array.shape, tensor_kind("F32"), lambda array=array: array)
        for name, array in tensors.items()
    }
    chunks = gguf_chunks({k: v for k, v in keys.items() if v is not None}, made)
    path.write_bytes(b"".join(chunks))
    return path


@pytest.mark.parametrize(
    ("case", "metadata", "reason"),
    [
        ("llama", {"general.architecture": "gemma3"},
         "expected an architecture of llama, qwen2, qwen3, gpt2, gptneox, got 'gemma3'"),
        ("llama", {"general.architecture": None}, "architecture: expected a text, got none"),
        ("llama", {"split.count": 3}, "it is one of '3' files; join them with llama-gguf-split"),
        ("llama", {"llama.block_count": None}, "block_count: expected an integer of at least 1"),
        ("llama", {"llama.block_count": 1.5}, "block_count: expected an integer .*, got '1.5'"),
        ("llama", {"llama.block_count": 3}, "a tensor blk.2.attn_norm.weight .*, got none"),
        ("llama", {"llama.block_count": 2**31}, "model.n_layer: expected an integer below 10001"),
        ("llama", {"llama.block_count": 1}, "it has a tensor 'blk.1.*', which llama has not"),
        ("llama", {"llama.feed_forward_length": 7},
         r"a tensor blk.0.ffn_gate.weight .* shape \(7, 32\), got one of F32 and \(128, 32"),
        ("llama", {"llama.attention.value_length": 7}, "expected values as long as keys"),
        ("llama", {"llama.rope.dimension_count": 4},
         "rope.dimension_count: expected 8, the channels of a head, got 4"),
        ("llama", {"llama.rope.scaling.type": "longrope"},
         "rope.scaling.type: expected none, linear or yarn, got 'longrope'"),
        ("llama", {"llama.expert_count": 8}, "expert_count is '8', and what it changes is not"),
        ("llama", {"llama.rope.freq_base": True}, "freq_base: expected a finite number above 0"),
        ("llama", {"llama.logit_scale": 0.5}, "llama.logit_scale is '0.5'"),
        ("llama", {"llama.attention.scale": 1.0}, "llama.attention.scale is '1.0'"),
        ("llama", {"llama.attention.head_count": np.array([4, 2], np.int32)},
         "llama.attention.head_count: expected an integer"),
        ("llama", {"llama.rope.scaling.yarn_ext_factor": 0.5}, "yarn_ext_factor is '0.5'"),
        ("qwen2", {"qwen2.attention.sliding_window": 5}, "qwen2.attention.sliding_window is '5'"),
        ("gpt_neox", {"gptneox.use_parallel_residual": 1},
         "gptneox.use_parallel_residual: expected true or false, got '1'"),
    ],
)  # fmt: skip
def test_metadata_that_do_not_fit_are_refused_by_name(tmp_path, case, metadata, reason):
    path = changed(tmp_path / "m.gguf", case, metadata)
    begun = time.process_time()
    with pytest.raises(CheckpointError, match=rf"m\.gguf: cannot be read as a model \(.*{reason}"):
        read_gguf(path)
    assert time.process_time() - begun < 2


def test_metadata_that_change_nothing_are_accepted(tmp_path):
    neutral = {
        "llama.expert_count": 0,
        "llama.logit_scale": 1.0,
        "llama.attention.scale": 8**-0.5,
        "llama.rope.scaling.attn_factor": 1.0,
        "general.name": "x",
        "qwen2.expert_count": 3,
    }
    plain = read_gguf(changed(tmp_path / "a.gguf", "llama")).settings
    assert read_gguf(changed(tmp_path / "b.gguf", "llama", neutral)).settings == plain


def test_tensors_missing_and_surplus_are_named(tmp_path):
    path = changed(tmp_path / "m.gguf", "llama", without=["blk.1.attn_k.weight"])
    with pytest.raises(CheckpointError, match=r"expected a tensor blk\.1\.attn_k\.weight .* none"):
        read_gguf(path)
    path = changed(tmp_path / "m.gguf", "llama", without=["token_embd.weight"])
    with pytest.raises(CheckpointError, match=r"expected a tensor token_embd\.weight, got none"):
        read_gguf(path)
    extra = {"blk__1__attn_sinks__weight": np.ones(4, np.float32)}
    with pytest.raises(CheckpointError, match=r"it has a tensor 'blk\.1\.attn_sinks\.weight'"):
        read_gguf(changed(tmp_path / "m.gguf", "llama", **extra))


def test_a_sliding_window_of_llama_makes_it_a_mistral(tmp_path):
    path = changed(tmp_path / "m.gguf", "llama", {"llama.attention.sliding_window": 7})
    settings = read_gguf(path).settings
    assert (settings["family"], settings["window"]) == ("mistral", 7)


def test_which_gelu_a_gpt2_means_is_our_key_or_the_one_of_llama_cpp(tmp_path):
    path = changed(tmp_path / "m.gguf", "gpt2")
    assert read_gguf(path).settings["activation"] == "gelu"
    for said in (None, "swiglu", 5):
        changed(path, "gpt2", {"tisslm.activation": said})
        assert read_gguf(path).settings["activation"] == "gelu_tanh"


def test_what_is_of_several_types_becomes_float32(tmp_path):
    path = tmp_path / "m.gguf"
    model = model_of("qwen2")
    write_gguf(path, model, None)
    file, kinds = GgufFile(path), {"blk.0.attn_k.weight": "BF16", "blk.0.attn_v.weight": "F16"}
    made = {
        name: Tensor(
            place.shape,
            tensor_kind(kinds.get(name, "F32")),
            lambda name=name: file[name],
        )
        for name, place in file.tensors.items()
    }
    chunks = list(gguf_chunks(file.metadata, made))
    path.write_bytes(b"".join(chunks))
    found = read_gguf(path).arrays["blocks.0.attention.qkv.weight"]
    true = model.parameters["blocks.0.attention.qkv.weight"].data
    assert found.dtype == np.float32
    assert np.array_equal(found[:32], true[:32])
    errors = np.abs(found - true).reshape(64, -1).max(axis=1) / np.abs(true).max()
    assert 0 < errors[32:48].max() < 4e-3
    assert 0 < errors[48:].max() < 5e-4


def test_seq_len_is_the_context_length(tmp_path):
    path = changed(tmp_path / "m.gguf", "llama", {"llama.context_length": 131072})
    assert read_gguf(path).settings["seq_len"] == 131072
    assert read_gguf(changed(path, "llama")).settings["seq_len"] == SIZES["seq_len"]

"""Models written and read: the same settings, the same bits."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from gguf_models import CASES, SIZES, model_of

from tisslm import Transformer, TransformerConfig, ops
from tisslm.errors import CheckpointError, ConfigError
from tisslm.models.gguf import read_gguf, write_gguf
from tisslm.models.pretrained import read_published
from tisslm.system.gguf_files import GgufFile
from tisslm.system.tensor_files import kind_of


@pytest.mark.parametrize("case", CASES)
def test_a_model_comes_back_to_the_bit(tmp_path, case):
    model = model_of(case)
    notes = write_gguf(tmp_path / "m.gguf", model, None)
    assert bool(notes) == (model.config.activation == "gelu")
    found = read_gguf(tmp_path / "m.gguf")
    assert TransformerConfig(**found.settings) == model.config
    assert set(found.arrays) == {p.name for p in model.parameters}
    for p in model.parameters:
        assert kind_of(found.arrays, p.name) == (p.shape, np.dtype("float32"))
        assert np.array_equal(found.arrays[p.name], p.data), p.name
    assert found.tokenizer is None
    assert found.where == str(tmp_path / "m.gguf")


def test_a_model_of_a_file_computes_what_it_did(tmp_path):
    model = model_of("llama llama3")
    write_gguf(tmp_path / "m.GGUF", model, None)
    found = Transformer.from_pretrained(tmp_path / "m.GGUF", seq_len=40)
    x = np.arange(40, dtype=np.int32)[None]
    assert np.array_equal(found.forward(x)[0], model.forward(x)[0])


def test_a_vocabulary_that_is_not_known_is_no_matter_to_a_model(tmp_path):
    write_gguf(tmp_path / "m.gguf", model_of("llama"), None)
    data = (tmp_path / "m.gguf").read_bytes()
    (tmp_path / "m.gguf").write_bytes(data.replace(b"no_vocab", b"rwkvrwkv"))
    assert Transformer.from_pretrained(tmp_path / "m.gguf").vocab_size == 300
    with pytest.raises(CheckpointError, match=r"tokenizer\.ggml\.model: expected gpt2 or llama"):
        read_published(tmp_path / "m.gguf")


def test_loading_takes_the_weights_and_little_more(tmp_path):
    pytest.importorskip("gguf", reason="needs pip install tisslm[gguf]")
    model = model_of("llama tied", n_embd=256, vocab_size=60_000)
    write_gguf(tmp_path / "m.gguf", model, None, "q8_0")
    Transformer.from_pretrained(tmp_path / "m.gguf")  # the library is imported
    tracemalloc.start()
    loaded = Transformer.from_pretrained(tmp_path / "m.gguf")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.05 * loaded.parameters.data.nbytes + 2**23


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "q8_0"])
def test_writing_takes_one_tensor_at_a_time(tmp_path, dtype):
    pytest.importorskip("gguf", reason="needs pip install tisslm[gguf]")
    model = model_of("llama tied", n_embd=256, vocab_size=60_000)
    write_gguf(tmp_path / "m.gguf", model, None, dtype)  # the library is imported
    tracemalloc.start()
    write_gguf(tmp_path / "m.gguf", model, None, dtype)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * 2**24  # the embedding alone has 61 MB


def test_queries_and_keys_of_llama_are_written_as_pairs_of_neighbours(tmp_path):
    model = model_of("llama tied")
    write_gguf(tmp_path / "m.gguf", model, None)
    q = model.parameters["blocks.0.attention.qkv.weight"].data[:8]  # the first head
    written = GgufFile(tmp_path / "m.gguf")["blk.0.attn_q.weight"][:8]
    assert np.array_equal(written, q[[0, 4, 1, 5, 2, 6, 3, 7]])


def test_those_of_other_architectures_stay_in_their_order(tmp_path):
    model = model_of("qwen2")
    write_gguf(tmp_path / "m.gguf", model, None)
    q = model.parameters["blocks.0.attention.qkv.weight"].data[:32]
    assert np.array_equal(GgufFile(tmp_path / "m.gguf")["blk.0.attn_q.weight"], q)


def test_biases_that_must_be_there_are_zeros(tmp_path):
    model = model_of("gpt2", bias=False, activation="gelu_tanh")
    assert write_gguf(tmp_path / "m.gguf", model, None) == []
    found = read_gguf(tmp_path / "m.gguf")
    assert TransformerConfig(**found.settings).bias
    again = Transformer(TransformerConfig(**found.settings))
    for p in again.parameters:
        p.data[...] = found.arrays[p.name]
    x = np.arange(40, dtype=np.int32)[None]
    assert np.array_equal(again.forward(x)[0], model.forward(x)[0])


def test_a_tied_gpt_neox_has_its_matrix_twice(tmp_path):
    model = model_of("gpt_neox", tie_embeddings=True)
    write_gguf(tmp_path / "m.gguf", model, None)
    found = read_gguf(tmp_path / "m.gguf")
    assert not found.settings["tie_embeddings"]
    assert np.array_equal(found.arrays["head.weight"], found.arrays["embedding.token.weight"])


@pytest.mark.parametrize("case", ["gpt2", "llama tied", "qwen3", "gpt_neox"])
def test_factors_of_mup_are_in_the_weights_of_a_file(tmp_path, case):
    exact = {"activation": "gelu_tanh"} if case == "gpt2" else {}
    model = model_of(case, mup_base_width=8, mup_base_head_dim=5, **exact)
    write_gguf(tmp_path / "m.gguf", model, None)
    found = Transformer.from_pretrained(tmp_path / "m.gguf")
    assert not found.config.mup_base_width
    x = np.arange(40, dtype=np.int32)[None]
    expected = model.forward(x)[0]
    assert np.abs(found.forward(x)[0] - expected).max() < 1e-5 * np.abs(expected).max()


def test_mistral_is_llama_to_the_format(tmp_path):
    model = model_of("llama", family="mistral", window=SIZES["seq_len"])
    write_gguf(tmp_path / "m.gguf", model, None)
    assert read_gguf(tmp_path / "m.gguf").settings["family"] == "llama"


@pytest.mark.parametrize(
    ("dtype", "type_", "bound"),
    [("fp16", "float16", 5e-4), ("bf16", "uint16", 4e-3), ("q8_0", "float32", 4.5e-3)],
)
def test_matrices_have_the_type_and_others_stay(tmp_path, dtype, type_, bound):
    pytest.importorskip("gguf", reason="needs pip install tisslm[gguf]")
    model = model_of("gpt2", activation="gelu_tanh")
    assert write_gguf(tmp_path / "m.gguf", model, None, dtype) == []
    arrays = read_gguf(tmp_path / "m.gguf").arrays
    for p in model.parameters:
        found = arrays[p.name]
        if len(p.shape) == 1 or "position" in p.name:
            assert np.array_equal(found, p.data)
            continue
        assert found.dtype == type_
        wide = ops.widen(found) if type_ == "uint16" else found
        largest = np.abs(p.data).max()
        assert 0 < np.abs(wide - p.data).max() <= bound * largest


def test_rows_that_are_no_blocks_are_float16_and_that_is_said(tmp_path):
    pytest.importorskip("gguf", reason="needs pip install tisslm[gguf]")
    model = model_of("llama", n_hidden=80)
    notes = write_gguf(tmp_path / "m.gguf", model, None, "q8_0")
    assert notes == ["rows of 80 numbers are not whole blocks of 32: these tensors are F16"]
    kinds = {name: at.kind.name for name, at in GgufFile(tmp_path / "m.gguf").tensors.items()}
    assert kinds["blk.0.ffn_down.weight"] == "F16"
    assert kinds["blk.0.ffn_up.weight"] == "Q8_0"
    # gate and up have one type, attention is whole: what is mixed becomes float32
    assert read_gguf(tmp_path / "m.gguf").arrays["blocks.0.mlp.up.weight"].dtype == np.float32


def test_a_weight_that_float16_cannot_hold_is_named(tmp_path):
    model = model_of("llama")
    model.parameters["blocks.1.mlp.down.weight"].data[0, 0] = -7e4
    with pytest.raises(CheckpointError, match=r"blk\.1\.ffn_down\.weight has a number above 65504"):
        write_gguf(tmp_path / "m.gguf", model, None, "fp16")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("case", "others", "key"),
    [
        ("gpt2", {"logit_cap": 15.0}, "logit_cap"),
        ("gpt2", {"n_kv_head": 2}, "n_kv_head"),
        ("gpt2", {"head_dim": 16}, "head_dim"),
        ("gpt2", {"positions": "none"}, "positions"),
        ("gpt2", {"activation": "relu2"}, "activation"),
        ("llama", {"window": 5}, "window"),
        ("llama", {"causal": False}, "causal"),
        ("llama", {"norm": "layer"}, "norm"),
        ("llama", {"rotary_fraction": 0.5}, "rotary_fraction"),
        ("llama", {"rope_scaling": {**CASES["llama yarn"]["rope_scaling"], "beta_fast": 20.0}},
         "rope_scaling"),
        ("qwen2", {"mlp_bias": True}, "mlp_bias"),
        ("qwen3", {"qk_norm": "all"}, "qk_norm"),
    ],
)  # fmt: skip
def test_what_the_format_cannot_say_is_refused(tmp_path, case, others, key):
    model = model_of(case, **others)
    message = rf"GGUF: llama.cpp's architecture {case} has nothing for model\.{key} = "
    with pytest.raises(ConfigError, match=message):
        write_gguf(tmp_path / "m.gguf", model, None)
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_another_family_and_another_dtype_are_refused(tmp_path):
    from tisslm_conv.family import CausalConv

    config = CausalConv().configure(n_layer=1, n_embd=8, seq_len=8, vocab_size=9)
    with pytest.raises(
        ConfigError, match=r"expected a model of the families llama, .*, got 'causal_conv'"
    ):
        write_gguf(tmp_path / "m.gguf", CausalConv().build(config), None)
    with pytest.raises(ConfigError, match=r"expected a dtype of fp32, .*, got 'fp8'"):
        write_gguf(tmp_path / "m.gguf", model_of("llama"), None, "fp8")


def test_a_folder_that_is_not_there_is_an_error_in_a_sentence(tmp_path):
    with pytest.raises(CheckpointError, match=r"m\.gguf: could not be written \(No such file"):
        write_gguf(tmp_path / "none" / "m.gguf", model_of("llama"), None)

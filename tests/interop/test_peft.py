"""Adapters against PEFT: its files here, ours there, merged weights, and twenty updates.

Needs PEFT, transformers and PyTorch, which ``make interop`` installs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tolerances import largest_error

from tisslm import TokenDataset, Trainer, TrainingConfig, Transformer, TransformerConfig, load_model
from tisslm.config import AdapterConfig
from tisslm.models.tuning.tuning import Tuning
from tisslm.workflows.export import export, write_folder

torch = pytest.importorskip("torch", reason="needs PyTorch")
transformers = pytest.importorskip("transformers", reason="needs transformers")
peft = pytest.importorskip("peft", reason="needs PEFT")

#: PEFT asks transformers by a name that transformers gives up.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

LOGITS = 1e-5  # of the largest: what the project promises
LOSSES = 1e-4  # of twenty updates of Adam, which carry rounding on

SIZES = {"n_layer": 2, "n_head": 4, "n_embd": 32, "seq_len": 24, "vocab_size": 61}
#: Shape, our targets, PEFT's modules, and whether the scale is that of rsLoRA.
CASES: dict[str, tuple[dict[str, Any], list[str], list[str], bool]] = {
    "llama": (
        {"family": "llama", "n_kv_head": 2},
        ["q", "v"],
        ["q_proj", "v_proj"],
        False,
    ),
    "llama all": (
        {"family": "llama", "tie_embeddings": True},
        ["q", "k", "v", "o", "gate", "up", "down"],
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        True,
    ),
    "qwen3": (
        {"family": "qwen3", "n_kv_head": 2, "head_dim": 16},
        ["k", "o", "up"],
        ["k_proj", "o_proj", "up_proj"],
        True,
    ),
    "gpt_neox": (
        {"family": "gpt_neox"},
        ["qkv", "o", "up"],
        ["query_key_value", "attention.dense", "dense_h_to_4h"],
        False,
    ),
    "gpt2": (
        {"family": "gpt2"},
        ["qkv", "o", "up", "down"],
        ["c_attn", "attn.c_proj", "c_fc", "mlp.c_proj"],
        False,
    ),
}


@pytest.fixture(params=list(CASES))
def case(request, tmp_path):
    shape, *rest = CASES[request.param]
    model = Transformer(TransformerConfig(**{**SIZES, **shape}), seed=4)
    rng = np.random.default_rng(5)
    for p in model.parameters:  # larger than drawn, so that all of it matters
        p.data[...] += rng.normal(scale=0.1, size=p.shape).astype(np.float32)
    write_folder(tmp_path / "base", model, None)
    return tmp_path, *rest


def theirs_of(folder: Path) -> Any:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval()


def logits_of(model: Any, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(x.astype(np.int64))).logits.numpy()


def tokens(rows: int = 3) -> np.ndarray:
    return np.random.default_rng(6).integers(0, 61, (rows, 24))


def test_their_adapters_here(case):
    folder, _, modules, rslora = case
    config = peft.LoraConfig(
        r=4, lora_alpha=6, target_modules=modules, use_rslora=rslora, init_lora_weights=False,
        task_type="CAUSAL_LM", fan_in_fan_out="c_attn" in modules,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = peft.get_peft_model(theirs_of(folder / "base"), config).eval()
    theirs.save_pretrained(folder / "adapter")
    ours, _ = load_model(folder / "adapter")
    x = tokens()
    expected = logits_of(theirs, x)
    assert largest_error(ours.forward(x)[0], expected) < LOGITS
    plain = Transformer.from_pretrained(folder / "base").forward(x)[0]
    assert largest_error(plain, expected) > 0.01  # they do something


def test_ours_there_and_twenty_updates(case):
    folder, targets, _, rslora = case
    adapter = AdapterConfig(rank=4, alpha=6.0, targets=targets, rslora=rslora)
    ours = Transformer.from_pretrained(folder / "base", tuning=Tuning(adapter=adapter))
    assert ours.base is not None
    settings = TrainingConfig(
        batch_size=3, max_steps=20, learning_rate=5e-3, max_grad_norm=0, validation_frequency=0,
        output_dir=str(folder / "run"),
    )  # fmt: skip
    stream = np.random.default_rng(7).integers(0, 61, 2000).astype(np.uint8)
    trainer = Trainer(
        ours, ("adamw", {"weight_decay": 0.0}), scheduler="constant", config=settings, sinks=(),
        dataset=TokenDataset(stream, 24, vocab_size=61),
    )  # fmt: skip
    start = trainer.save_checkpoint(0, 0)
    theirs = peft.PeftModel.from_pretrained(theirs_of(folder / "base"), start, is_trainable=True)
    optimizer = torch.optim.AdamW(
        [p for p in theirs.parameters() if p.requires_grad], lr=5e-3, weight_decay=0.0
    )
    for _ in range(20):
        x, y = np.random.default_rng(trainer.current_step).integers(0, 61, (2, 3, 24))
        loss = trainer.train_step(x, y)
        logits = theirs(torch.from_numpy(x)).logits
        expected = torch.nn.functional.cross_entropy(
            logits.reshape(-1, 61), torch.from_numpy(y).reshape(-1)
        )
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        assert loss == pytest.approx(expected.item(), rel=LOSSES)

    saved = trainer.save_checkpoint(0, 20)
    again = peft.PeftModel.from_pretrained(theirs_of(folder / "base"), saved).eval()
    x = tokens()
    found = ours.forward(x)[0]
    assert largest_error(logits_of(again, x), found) < LOGITS
    assert largest_error(logits_of(theirs.eval(), x), found) < 100 * LOGITS

    export(folder / "run", folder / "alone", form="peft")
    alone = peft.PeftModel.from_pretrained(theirs_of(folder / "base"), folder / "alone").eval()
    assert np.array_equal(logits_of(alone, x), logits_of(again, x))
    export(folder / "run", folder / "merged")
    assert largest_error(logits_of(theirs_of(folder / "merged"), x), found) < LOGITS
    merged = again.merge_and_unload()
    for name, tensor in theirs_of(folder / "merged").state_dict().items():
        assert largest_error(tensor.numpy(), merged.state_dict()[name].numpy()) < LOGITS

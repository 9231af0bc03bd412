"""Names and rows of adapters in PEFT's files, against those of the weights they are beside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tisslm import Transformer, TransformerConfig
from tisslm.config import AdapterConfig
from tisslm.errors import CheckpointError
from tisslm.models.tuning.adapters import MODULES
from tisslm.models.tuning.peft import Peft, peft_targets
from tisslm.models.tuning.tuning import Tuning

SIZES = {"n_layer": 2, "n_head": 4, "n_embd": 32, "seq_len": 8, "vocab_size": 11}
FAMILIES = ["gpt2", "llama", "mistral", "qwen2", "qwen3", "gpt_neox"]


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_are_those_of_the_weight_there(family: str) -> None:
    config = TransformerConfig(family=family, **SIZES)
    targets = [target for target in MODULES if target in peft_targets(config)]
    adapter = AdapterConfig(rank=1, targets=targets)
    model = Transformer(config, tuning=Tuning(adapter=adapter))
    for p in model.parameters:
        if p.name.endswith("lora_b"):  # the number of its row in the fused matrix
            module, block = MODULES[p.name.split(".")[-2]]
            number = p.name.split(".")[1]
            weight = model.parameters[f"blocks.{number}.{module}.weight"]
            rows = weight.blocks.get(block, slice(0, weight.shape[0]))
            p.data[:, 0] = np.arange(rows.start, rows.stop)
            weight.data[...] = np.arange(weight.shape[0])[:, None]
    exchange = model.exchange()
    assert exchange is not None
    state = model.parameters.state()
    weights = exchange.outward(state)
    found = Peft(config, targets).outward(state)
    assert len(found) == 2 * 2 * len(targets)
    for name, array in found.items():
        module = name.removeprefix("base_model.model.")
        weight = weights[module.replace("lora_A.", "").replace("lora_B.", "")]
        turned = weight.T if family == "gpt2" else weight  # whose maps are outputs behind inputs
        if "lora_B" in name:
            assert np.array_equal(array[:, 0], turned[:, 0]), name
        else:
            assert array.shape == (1, turned.shape[1]), name
    back = Peft(config, targets).inward(found, "there")
    assert all(np.array_equal(array, state[name]) for name, array in back.items())


def test_gpt2_has_one_module_of_three_maps() -> None:
    gpt2, llama = (TransformerConfig(family=f, **SIZES) for f in ("gpt2", "llama"))
    assert peft_targets(gpt2) == {"qkv", "o", "up", "down"}
    assert peft_targets(llama) == {"q", "k", "v", "o", "gate", "up", "down"}
    values = Peft(gpt2, ["qkv", "o", "down"]).configuration(AdapterConfig(), None)
    assert values["target_modules"] == ["c_attn", "attn.c_proj", "mlp.c_proj"]
    assert values["fan_in_fan_out"] is True


def test_adapters_of_something_else_are_refused() -> None:
    config = TransformerConfig(family="llama", **SIZES)
    name = "base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight"
    with pytest.raises(CheckpointError, match=r"of a llama model of 2 layers, got .*layers.7"):
        Peft(config, ["q"]).inward({name: np.zeros((1, 32))}, str(Path("there")))

"""``docs/models.md`` says what the families and presets are, and what it shows can be built."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tisslm import Transformer, TransformerConfig
from tisslm.config import RunConfig
from tisslm.config.model import FAMILIES, PRESETS, preset
from tisslm.registry import load_registry
from tisslm.workflows.build.settling import settle_sizes

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
TEXT = PAGE.read_text(encoding="utf-8")

CONFIGURATIONS = re.findall(r"^```toml config\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)

#: Columns of the table of presets that hold one key.
COLUMNS = ("n_kv_head", "head_dim", "n_hidden", "vocab_size")

#: Keys that the table of the configuration has, and the page does not repeat.
ELSEWHERE = {"family", "n_layer", "n_head", "n_embd", "seq_len"}

#: What the table of families says of a value.
WORDS: dict[str, dict[Any, str]] = {
    "positions": {"learned": "learned table", "rotary": "rotary"},
    "norm": {"layer": "layer", "rms": "RMS"},
    "activation": {"gelu": "GELU", "swiglu": "SwiGLU"},
    "qk_norm": {"none": "none", "head": "each head"},
    "parallel_residual": {False: "in turn", True: "side by side"},
    "tie_embeddings": {True: "the embedding", False: "its own"},
}


def table(first: str) -> list[list[str]]:
    """Return the cells of the table whose first heading is this, the headings among them."""
    lines = TEXT.splitlines()
    (start,) = [i for i, line in enumerate(lines) if line.startswith(f"| {first} |")]
    found = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return [found[0], *found[2:]]


@pytest.mark.parametrize("row", table("preset")[1:], ids=lambda row: row[0])
def test_the_keys_and_the_parameters_of_a_preset(row: list[str]) -> None:
    name, *cells, others, parameters = row
    values = preset(name.strip("`"))
    shown: dict[str, Any] = {
        key: int(cell) for key, cell in zip(COLUMNS, cells, strict=True) if cell
    }
    for code in re.findall(r"`(\w+ = [^`]+)`", others):
        shown.update(tomllib.loads(code))
    if scaling := re.search(r"`rope_scaling` \(`(\w+)`\)", others):
        assert values["rope_scaling"]["rope_type"] == scaling[1]
        shown["rope_scaling"] = values["rope_scaling"]
    assert shown == {key: value for key, value in values.items() if key not in ELSEWHERE}
    shape = TransformerConfig(**{"vocab_size": 65, **values})
    count = Transformer.of_shapes(shape).parameters.count
    assert parameters == f"{count / 1e6:.1f} M"


def test_every_preset_is_in_the_table() -> None:
    assert [row[0].strip("`") for row in table("preset")[1:]] == list(PRESETS)


def test_the_choices_of_the_families() -> None:
    (_, _, *heads), *lines = table("choice")
    families = [re.findall(r"`(\w+)`", head) for head in heads]
    assert [name for names in families for name in names] == list(FAMILIES)
    choices = {re.findall(r"`(\w+)`", line[1])[0]: line[2:] for line in lines}
    sizes = {"n_layer": 1, "n_head": 1, "n_embd": 16, "seq_len": 1, "vocab_size": 1}
    for names, i in zip(families, range(len(families)), strict=True):
        for name in names:
            shape = TransformerConfig(family=name, **sizes)
            for key, words in WORDS.items():
                said = choices[key][i].partition(",")[0]
                assert said == words[getattr(shape, key)], (name, key)
            biases = {(True, True): "all", (False, True): "of q, k, v", (False, False): "none"}
            assert choices["bias"][i] == biases[shape.bias, bool(shape.qkv_bias)], name


@pytest.mark.parametrize("text", CONFIGURATIONS)
def test_a_model_of_every_configuration_can_be_built(text: str) -> None:
    config = RunConfig.from_mapping(tomllib.loads(text))
    _, shape = settle_sizes({**config.model, "vocab_size": 65}, load_registry())
    assert isinstance(shape, TransformerConfig)
    assert Transformer.of_shapes(shape).parameters.count > 0


def test_sizes_of_the_computed_presets() -> None:
    page = (PAGE.parent / "configuration.md").read_text(encoding="utf-8")
    (said,) = re.findall(
        r"`depth-4` has (\d+) million parameters.*`depth-6` (\d+), `depth-12` (\d+)", page
    )
    for layers, millions in zip((4, 6, 12), said, strict=True):
        shape = TransformerConfig.preset(f"depth-{layers}", vocab_size=1)
        assert round(Transformer.of_shapes(shape).parameters.count / 1e6) == int(millions)

"""Weights of any source become a model: checked before memory is taken, and filled in pieces."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from model_folders import SIZES, model_of, save

from tisslm import Transformer, TransformerConfig
from tisslm.errors import CheckpointError
from tisslm.models.published import Published
from tisslm.system.tensor_files import Kind, Piece, StreamedArrays

POSITIONS = "embedding.position.weight"


def published(**change: Any) -> Published:
    model = model_of("gpt2")
    arrays = {**model.parameters.state(), **change}
    settings = {"family": "gpt2", **model.config.values()}
    return Published(settings, {n: a for n, a in arrays.items() if a is not None}, "source")


def test_arrays_of_any_mapping_are_filled_in() -> None:
    source = published()
    model = Transformer.of_published(source, seed=7)
    assert model.seed == 7
    for name, array in source.arrays.items():
        np.testing.assert_array_equal(model.parameters[name].data, array)
    single = np.float64(1) + 2.0**-40
    wide = published(
        **{POSITIONS: np.full((12, 32), single), "final_norm.bias": np.full(32, 1e300)}
    )
    found = Transformer.of_published(wide).parameters
    assert (found[POSITIONS].data == 1).all()
    assert np.isinf(found["final_norm.bias"].data).all()  # beyond float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"final_norm.bias": None},
            "source: expected an array final_norm.bias of shape (32,), got none; download or save "
            "the whole model again",
        ),
        (
            {"final_norm.bias": np.zeros(31)},
            "source: expected an array final_norm.bias of shape (32,), got one of (31,); download "
            "or save the whole model again",
        ),
        (
            {"final_norm.bias": np.zeros(32, np.int32)},
            "source: expected final_norm.bias of a type out of float32, float16, bfloat16 and "
            "float64, got int32; save the model in one of these",
        ),
        (
            {"more": np.zeros(2)},
            "source: expected the arrays of its configuration, got 'more' besides; download or "
            "save the whole model again",
        ),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        Transformer.of_published(published(**change))
    assert str(caught.value) == message


class InPieces(StreamedArrays):
    """Arrays that come two rows at a time."""

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self.arrays = arrays

    def kind(self, name: str) -> Kind:
        return self.arrays[name].shape, self.arrays[name].dtype

    def pieces(self, name: str) -> Iterator[Piece]:
        for first in range(0, len(self.arrays[name]), 2):
            rows = slice(first, first + 2)
            yield rows, self.arrays[name][rows]

    def __getitem__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked for whole")

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)


@pytest.mark.parametrize("length", [12, 7, 6, 1])
def test_a_table_that_comes_in_pieces_is_cut(length: int) -> None:
    whole = published()
    source = Published(whole.settings, InPieces(whole.arrays), "source")
    model = Transformer.of_published(source, seq_len=length)
    for parameter in model.parameters:
        array = whole.arrays[parameter.name]
        rows = length if parameter.name == POSITIONS else None
        np.testing.assert_array_equal(parameter.data, array[:rows])


def test_an_empty_model_has_no_values_and_learns_like_any_other() -> None:
    config = TransformerConfig(**SIZES)
    empty, drawn = Transformer.empty(config), Transformer(config)
    assert not empty.parameters.data.any()
    for parameter in empty.parameters:
        parameter.data[...] = drawn.parameters[parameter.name].data
    x = np.arange(12, dtype=np.int32)[None] % 11
    for model in (empty, drawn):
        logits, cache = model.forward(x)
        model.backward(np.ones_like(logits), cache)
    assert empty.parameters.grad.tobytes() == drawn.parameters.grad.tobytes()


PEAK = """
import sys
from tisslm import Transformer
from tisslm.models.huggingface.folder import read_folder

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

warm = Transformer.from_pretrained(sys.argv[2])
before = peak()
model = Transformer.from_pretrained(sys.argv[1])
weights = model.parameters.data.nbytes
largest = 4 * max(p.size for p in model.parameters)
print((peak() - before) / (weights + largest), weights)
"""


@pytest.mark.parametrize(
    ("family", "dtype"),
    [("llama", "float32"), ("llama", "uint16"), ("gpt2", "float16"), ("gpt_neox", "uint16")],
)
def test_the_peak_is_the_weights_and_the_largest_array(tmp_path, family: str, dtype: str) -> None:
    """Gradients take none; a copy of all weights, or of two large ones, would be seen."""
    sizes = {"n_embd": 512, "n_head": 8, "n_layer": 6, "vocab_size": 8000}
    save(model_of(family, **sizes), tmp_path / "large", dtype=dtype)
    save(model_of(family), tmp_path / "small", dtype=dtype)
    command = [sys.executable, "-c", PEAK, tmp_path / "large", tmp_path / "small"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    share, weights = map(float, done.stdout.split())
    assert weights > 7e7
    assert share < 1.05

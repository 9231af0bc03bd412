"""What a coordinate check measures, that it tells muP from its absence, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tisslm import Transformer, TransformerConfig
from tisslm.config import RunConfig
from tisslm.contracts import Rows
from tisslm.errors import ConfigError
from tisslm.workflows.coordinates import Coordinates, Widths, coordinate_check, write_plot
from tisslm.workflows.coordinates.sizes import sizes_of

SIZES: dict[str, Any] = {"n_layer": 1, "n_head": 2, "n_embd": 32, "seq_len": 16}


def run(tmp_path: Path, **model: Any) -> RunConfig:
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 40)
    return RunConfig.from_mapping(
        {
            "data": {"path": str(text)},
            "model": {**SIZES, **model},
            "training": {"batch_size": 4, "learning_rate": 1e-2, "keep_best": 1},
            "optimizer": {"name": "adamw"},
        }
    )


def test_with_mup_activations_stay_and_without_they_grow(tmp_path: Path) -> None:
    config, found = run(tmp_path), {}
    for base in (32, 0):
        widths = Widths((32, 256), base)
        found[base] = coordinate_check(config, widths, steps=4, seeds=(1, 2))
    assert found[32].ratio("blocks.0.mlp") < 1.5
    assert found[0].ratio("blocks.0.mlp") > 4
    assert found[32].flat
    assert not found[0].flat
    # the narrowest is the base, which muP leaves as it is
    for place, sizes in found[0].sizes.items():
        assert [step[0] for step in sizes] == [step[0] for step in found[32].sizes[place]]
    assert found[0].losses[0][0] == found[32].losses[0][0]
    assert not (tmp_path / "runs").exists()


def test_sizes_are_those_of_a_pass() -> None:
    shape = TransformerConfig(**SIZES, vocab_size=11, family="llama", n_kv_head=1)
    model = Transformer(shape, seed=1)
    ids = np.random.default_rng(2).integers(0, 11, (3, 16)).astype(np.int32)
    found = sizes_of(model, Rows(ids, ids))
    places = ["embedding", "blocks.0.attention", "blocks.0.attention.scores", "blocks.0.mlp"]
    assert list(found) == [*places, "logits"]
    token = model.parameters["embedding.token.weight"].data[ids]
    assert found["embedding"] == pytest.approx(float(np.abs(token).mean()), rel=1e-6)
    logits, _ = model.forward(ids)
    assert found["logits"] == pytest.approx(float(np.abs(logits).mean()), rel=1e-6)
    # scores: from queries and keys, as a twin has them
    x = token / np.sqrt((token**2).mean(-1, keepdims=True) + shape.norm_eps)
    q, k, _ = np.split(x @ model.parameters["blocks.0.attention.qkv.weight"].data.T, [32, 48], -1)
    turned = [_turned(part.reshape(3, 16, -1, 16)) for part in (q, k)]
    scores = np.einsum("bhd,btd->bht", turned[0][:, -1], turned[1][:, :, 0]) / 4
    assert found["blocks.0.attention.scores"] == pytest.approx(float(np.abs(scores).mean()), 1e-4)
    assert model.observers == ()


def _turned(x_BTHD: np.ndarray) -> np.ndarray:
    """Turn channels i and i + D/2 by their angles."""
    half = x_BTHD.shape[-1] // 2
    angles = np.arange(16)[:, None] * 1e4 ** (-np.arange(half) / half)
    turns = np.exp(1j * angles)[None, :, None]
    turned = (x_BTHD[..., :half] + 1j * x_BTHD[..., half:]) * turns
    return np.concatenate([turned.real, turned.imag], -1)


@pytest.mark.parametrize(
    ("widths", "own", "expected"),
    [
        (Widths((32, 64), 32), {}, {"n_head": 2, "head_dim": 32, "n_hidden": 256}),
        (Widths((32, 64), 0, 16), {}, {"n_head": 4, "head_dim": 16, "mup_base_width": 0}),
        (
            Widths((32, 64), 32, 8),
            {"n_kv_head": 1},
            {"n_head": 8, "head_dim": 8, "n_kv_head": 4, "mup_base_head_dim": 8},
        ),
        (Widths((32, 64), 32), {"n_hidden": 48}, {"n_hidden": 96, "mup_base_head_dim": 0}),
        (Widths((32, 64)), {"head_dim": 10, "mup_base_width": 8}, {"head_dim": 20, "n_head": 2}),
    ],
)
def test_heads_and_mlp_keep_their_share(
    widths: Widths, own: dict[str, Any], expected: dict[str, Any]
) -> None:
    shape = widths.shape(TransformerConfig(**{**SIZES, "vocab_size": 11, **own}), 64)
    assert {key: getattr(shape, key) for key in expected} == expected
    assert shape.n_embd == 64


def test_gated_mlps_stay_derived() -> None:
    own = TransformerConfig(family="llama", **{**SIZES, "vocab_size": 11})
    assert Widths().shape(own, 512).n_hidden == 1408


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda _: Widths((64,)), "expected at least two widths, ascending, got 64"),
        (lambda _: Widths((64, 64)), "expected at least two widths, ascending, got 64, 64"),
        (
            lambda p: coordinate_check(run(p), Widths((32, 33))),
            "33 channels cannot be shared out among 2 heads; give other widths, or another",
        ),
        (
            lambda p: coordinate_check(run(p), Widths((32, 40), 0, 16)),
            "40 channels cannot be shared out among heads of 16; give other widths, or another",
        ),
        (lambda p: coordinate_check(run(p), seeds=()), "expected at least one seed, got none"),
        (lambda p: coordinate_check(run(p), steps=0), "steps: expected a number of updates"),
    ],
)
def test_what_makes_no_check_is_refused(tmp_path: Path, how: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"coordinate check: {message}"):
        how(tmp_path)


def test_a_ratio_is_of_a_step_and_the_largest_decides() -> None:
    sizes = {"a": ((1.0, 1.0), (2.0, 3.0)), "b": ((1.0, 4.0), (5.0, 2.0))}
    found = Coordinates(Widths((1, 2)), 1e-3, (1,), sizes, ((3.0, 3.0), (2.0, 1.0)))
    assert (found.ratio("a"), found.ratio("b", 0), found.steps) == (1.5, 4.0, 1)
    assert found.largest == ("b", 2.5)
    assert (found.growth("a"), found.growth("b"), found.growth("b", 0)) == (1.5, 1.0, 4.0)
    scores = replace(found, sizes={"b.scores": sizes["b"]})
    assert scores.largest == ("b.scores", 1.0)
    assert not found.flat
    facts = found.facts()
    assert facts["ratios"] == {"a": [1.0, 1.5], "b": [4.0, 2.5]}
    assert facts["losses"] == [[3.0, 3.0], [2.0, 1.0]]


@pytest.mark.parametrize("place", ["a", "a.scores"])
@pytest.mark.parametrize("size", [np.nan, np.inf])
def test_a_size_that_is_not_finite_is_not_flat_and_leaves_json_plain(
    place: str, size: float
) -> None:
    sizes = {place: ((1.0, 1.0), (1.0, size))}
    found = Coordinates(Widths((1, 2)), 1e-3, (1,), sizes, ((3.0, 3.0), (2.0, size)))
    assert not found.flat
    assert found.largest == (place, np.inf)
    facts = json.loads(json.dumps(found.facts(), allow_nan=False))
    assert facts["sizes"] == {place: [[1.0, 1.0], [1.0, None]]}
    assert facts["ratios"] == {place: [1.0, None]}
    assert facts["losses"] == [[3.0, 3.0], [2.0, None]]


def test_the_figure_is_the_same_each_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    sizes = {"embedding": ((1.0, 1.0), (2.0, 3.0)), "logits": ((1.0, 4.0), (5.0, 2.0))}
    found = Coordinates(Widths((1, 2)), 1e-3, (1,), sizes, ((3.0, 3.0), (2.0, 1.0)))
    for name in ("a.svg", "b.svg"):
        write_plot(found, tmp_path / name, title="A check")
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    assert all(words in text for words in ("A check", "embedding", "logits", "step 1"))

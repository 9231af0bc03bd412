"""What holds for all of them: the contract, maps apart, threads, memory, what is refused."""

from __future__ import annotations

import tomllib
import tracemalloc
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tisslm_optimizers
from optimizer_examples import LR, SPECS, make, train
from tisslm_optimizers.adafactor import Adafactor
from tisslm_optimizers.adam8bit import Adam8bit
from tisslm_optimizers.lamb import Lamb
from tisslm_optimizers.muon import Muon
from tisslm_optimizers.schedule_free import ScheduleFreeAdamW

from tisslm import TrainingConfig, Transformer, TransformerConfig, ops
from tisslm.errors import ConfigError
from tisslm.memory import Parameters, ParameterSpec
from tisslm.memory.shards import ParameterShard
from tisslm.registry import load_registry
from tisslm.testing import check_optimizer
from tisslm.training.memory_plan.planner import Planner

ALL = {
    "muon": Muon,
    "adafactor": Adafactor,
    "schedule_free_adamw": ScheduleFreeAdamW,
    "lamb": Lamb,
    "adam8bit": Adam8bit,
}
every = pytest.mark.parametrize("name", ALL)
SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 48, "seq_len": 16, "vocab_size": 200}
LLAMA = {"n_kv_head": 1, "activation": "swiglu", "norm": "rms", "tie_embeddings": False}


@every
def test_it_keeps_the_contract(name: str) -> None:
    assert check_optimizer(ALL[name]).n_assertions > 100


def test_steps_of_muon_are_as_long_as_those_of_adamw_where_they_are_to_be() -> None:
    """A root mean square of 0.2 for each learning rate, which the checks find too short."""
    parameters = make("float32")
    before = parameters["down.weight"].data.copy()
    train(Muon(parameters, LR, weight_decay=0.0), steps=range(1))
    moved = parameters["down.weight"].data - before
    assert np.sqrt(np.mean(moved**2)) / LR == pytest.approx(0.2, rel=0.3)


@pytest.mark.parametrize("name", ["muon", "adafactor", "lamb"])
def test_maps_of_a_fused_product_are_updated_apart(name: str) -> None:
    fused = SPECS[1]
    apart = tuple(ParameterSpec(f"{fused.name}.{n}", (rows, 6)) for n, rows in fused.blocks)
    one, several = Parameters([fused], "float64"), Parameters(apart, "float64")
    rng = np.random.default_rng(1)
    for made in (one, several):
        for p in made:
            p.data[...] = 1.0
    optimizers = [ALL[name](made, LR, weight_decay=0.1) for made in (one, several)]
    for _ in range(3):
        g = rng.normal(size=fused.shape)
        one[fused.name].grad[...] = g
        for block, rows in fused.rows().items():
            several[f"{fused.name}.{block}"].grad[...] = g[rows]
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    parts = np.concatenate([p.data for p in several])
    np.testing.assert_array_equal(one[fused.name].data, parts)


@every
@pytest.mark.skipif(ops.REFERENCE_ONLY, reason="twins run on one thread")
def test_bits_do_not_depend_on_the_threads(name: str, threads: Callable[[int], object]) -> None:
    specs = (
        ParameterSpec("up.weight", (150, 130), blocks=(("gate", 75), ("up", 75))),
        ParameterSpec("bias", (150,), decay=False),
        ParameterSpec("down.weight", (40, 450)),
    )
    found = []
    for count in (1, 2, 3):
        threads(count)
        parameters = make("float32", specs)
        optimizer = ALL[name](parameters, LR)
        train(optimizer, specs, range(3))
        found.append(
            [parameters.data.tobytes(), *(a.tobytes() for a in optimizer.state().values())]
        )
    assert found[0] == found[1] == found[2]


@every
@pytest.mark.parametrize("shape", [{}, LLAMA], ids=["gpt2", "llama"])
@pytest.mark.usefixtures("named")
def test_what_is_planned_is_what_is_taken(name: str, shape: dict[str, Any]) -> None:
    config = TransformerConfig(**SHAPE, **shape)

    def planned(optimizer: str, **more: Any) -> Planner:
        return Planner(
            Transformer.of_shapes(config),
            TrainingConfig(batch_size=2),
            optimizer,
            load_registry(),
            **more,
        )

    plan, plain = (planned(optimizer).plan().by_family for optimizer in (name, "sgd"))
    optimizer = ALL[name](Transformer(config).parameters, 1e-3)
    taken = sum(array.nbytes for array in optimizer.state().values())
    # padding grows in steps of 16 numbers: what is laid out like the parameters is near, not equal
    assert plan["optimizer state"] == pytest.approx(taken, rel=0.002)
    kept: dict[str, Callable[[Any], int]] = {
        "muon": _orthogonalizing,
        "adafactor": lambda optimizer: optimizer._part_P.nbytes,
    }
    scratch = plan["scratch"] - plain["scratch"]
    assert scratch == kept.get(name, lambda optimizer: 0)(optimizer)
    several = planned(name, ranks=2).plan().by_family["optimizer state"]
    assert 0.4 * taken < several < 0.9 * taken


def _orthogonalizing(optimizer: Muon) -> int:
    room = optimizer._orthogonalized
    return sum(array.nbytes for array in (room._x_P, room._y_P, room._a_P, room._b_P))


def test_bytes_for_each_parameter_are_those_of_the_table() -> None:
    """Of a matrix of 1024 x 1024; docs/optimizers.md has the table."""
    specs = (ParameterSpec("w", (1024, 1024)),)
    found = {}
    for name, build in ALL.items():
        optimizer = build(Parameters(specs, "float32"), LR)
        found[name] = sum(a.nbytes for a in optimizer.state().values()) / 2**20
    expected = {
        "muon": 4,
        "adafactor": 0.01,
        "schedule_free_adamw": 12,
        "lamb": 8,
        "adam8bit": 2.03,
    }
    assert found == pytest.approx(expected, abs=0.005)


@every
@pytest.mark.skipif(ops.REFERENCE_ONLY, reason="the twin makes arrays")
def test_a_step_allocates_no_arrays(name: str) -> None:
    specs = (ParameterSpec("w", (300, 250)), ParameterSpec("b", (250,), decay=False))
    optimizer = ALL[name](make("float32", specs), LR)
    train(optimizer, specs, range(3))
    tracemalloc.start()
    try:
        optimizer.step()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10_000, f"{peak} bytes in one step; a row of the matrix has 1000"


@pytest.mark.parametrize("name", ["muon", "adafactor", "lamb", "adam8bit"])
def test_what_needs_whole_matrices_refuses_pieces(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ALL[name](ParameterShard(make("float32"), [(0, 32)]), LR)
    assert str(caught.value) == (
        f"optimizer {name}: expected whole parameters, got flat pieces of them; cut the shard "
        "between parameters, with shaped=True"
    )


@every
def test_a_model_without_trainable_parameters_is_left_alone(name: str) -> None:
    parameters = Parameters([ParameterSpec("w", (2, 2), trainable=False)])
    optimizer = ALL[name](parameters, LR)
    optimizer.step()
    assert not [key for key in optimizer.state() if "/" in key]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "muon",
            {"momentum": 1.0},
            "optimizer muon: momentum: expected a number in [0, 1), got 1.0",
        ),
        (
            "muon",
            {"adjust_lr": "rms"},
            'optimizer muon: adjust_lr: expected "match_rms_adamw" or "original", got \'rms\'',
        ),
        (
            "muon",
            {"adamw": ["embeding.weight"]},
            "optimizer muon: adamw: expected names that match a parameter, got 'embeding.weight'. "
            "Did you mean 'embedding.weight'? The first are embedding.weight, qkv.weight, "
            "qkv.bias, down.weight, norm.weight, head.weight",
        ),
        (
            "muon",
            {"adamw": 3},
            "optimizer muon: adamw: expected names of parameters, got 3; give a list such as "
            '["embedding*", "head*"]',
        ),
        ("lamb", {"beta2": -1}, "optimizer lamb: beta2: expected a number in [0, 1), got -1"),
        (
            "adam8bit",
            {"full_below": -1},
            "optimizer adam8bit: full_below: expected an integer >= 0, got -1",
        ),
        (
            "adafactor",
            {"scale_parameter": 1},
            "optimizer adafactor: scale_parameter: expected true or false, got 1",
        ),
        (
            "schedule_free_adamw",
            {"beta1": 1},
            "optimizer schedule_free_adamw: beta1: expected a number in [0, 1), got 1",
        ),
    ],
)
def test_options_out_of_range_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ALL[name](make("float32"), LR, **options)
    assert str(caught.value) == message


def test_the_entry_point_names_the_hook_module_and_the_hook_the_classes() -> None:
    text = Path(__file__).parents[1].joinpath("pyproject.toml").read_text()
    points = tomllib.loads(text)["project"]["entry-points"]
    assert points == {"tisslm": {"optimizers": "tisslm_optimizers"}}
    entries = {entry.name: entry.target for entry in tisslm_optimizers.tisslm_optimizers()}
    assert list(entries) == list(ALL)
    for name, target in entries.items():
        module, _, attribute = target.partition(":")
        assert getattr(import_module(module), attribute) is ALL[name]

"""A shard of parameters: what an optimizer sees of a part is what it saw of the whole."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisslm.errors import ShapeError
from tisslm.memory import Parameters, ParameterSpec
from tisslm.memory.shards import ParameterShard
from tisslm.optim.optimizers.adamw import AdamW

SPECS = [
    ParameterSpec("wide", (5, 7)),
    ParameterSpec("bias", (7,), decay=False),
    ParameterSpec("head", (3, 11)),
    ParameterSpec("slow", (4,), lr_scale=0.5, decay=False),
]


def filled(seed: int = 0) -> Parameters:
    """Return parameters with values and gradients, zeros in the padding."""
    parameters = Parameters(SPECS)
    rng = np.random.default_rng(seed)
    for parameter in parameters:
        parameter.data[...] = rng.standard_normal(parameter.shape)
        parameter.grad[...] = rng.standard_normal(parameter.shape)
    return parameters


SIZE = filled().data.size


@st.composite
def cuts(draw: st.DrawFn) -> list[list[tuple[int, int]]]:
    """Deal ranges that make up the whole to a few ranks."""
    edges = sorted({0, SIZE, *draw(st.lists(st.integers(0, SIZE), max_size=9))})
    ranks = draw(st.integers(1, 4))
    dealt: list[list[tuple[int, int]]] = [[] for _ in range(ranks)]
    for start, stop in itertools.pairwise(edges):
        dealt[draw(st.integers(0, ranks - 1))].append((start, stop))
    return dealt


@given(cuts())
def test_updates_of_shards_are_the_update_of_the_whole(dealt: list[list[tuple[int, int]]]) -> None:
    whole, apart = filled(), filled()
    expected = AdamW(whole, 1e-2)
    shards = [ParameterShard(apart, ranges) for ranges in dealt]
    optimizers = [AdamW(shard, 1e-2) for shard in shards]
    for shard in shards:
        shard.read()
        for (start, stop), piece in shard.pieces(shard.grad):
            piece[...] = apart.grad[start:stop]
    for _ in range(3):
        expected.step()
        for shard, optimizer in zip(shards, optimizers, strict=True):
            optimizer.step()
            shard.write()
    assert np.array_equal(apart.data, whole.data)
    for name, array in expected.state().items():
        if "/" not in name:
            continue
        found = np.full(array.size, np.nan, array.dtype)
        for shard, optimizer in zip(shards, optimizers, strict=True):
            piece, taken = optimizer.state().get(name), 0
            for place in shard.elements(name.split("/")[0]):
                length = place.stop - place.start
                found[place] = piece[taken : taken + length]
                taken += length
            assert piece is None or taken == len(piece)
        assert np.array_equal(found.reshape(array.shape), array), name


def test_counts_of_the_whole_go_on() -> None:
    whole = filled()
    shard = ParameterShard(whole, [(0, 16)])
    AdamW(shard, 1e-3).step()
    assert whole.updates == shard.updates == 1
    shard.zero_grad()
    assert whole.generation == shard.generation == 1


def test_an_empty_shard_is_updated_to_nothing() -> None:
    whole = filled()
    before = whole.data.copy()
    optimizer = AdamW(ParameterShard(whole, []), 1e-3)
    optimizer.step()
    assert set(optimizer.state()) == {"step"}
    assert np.array_equal(whole.data, before)


@pytest.mark.parametrize("ranges", [[(0, SIZE + 1)], [(16, 32), (0, 8)], [(8, 4)], [(-1, 4)]])
def test_ranges_that_are_none_are_refused(ranges: list[tuple[int, int]]) -> None:
    with pytest.raises(ShapeError, match="shard: expected ascending ranges within"):
        ParameterShard(filled(), ranges)


def test_a_shard_of_whole_parameters_has_their_shapes() -> None:
    whole = filled()
    start, stop = (whole[name].offset for name in ("head", "slow"))
    shard = ParameterShard(whole, [(start, stop)], shaped=True)
    shard.read()
    (piece,) = shard
    assert (piece.name, piece.shape, piece.offset, piece.size) == ("head", (3, 11), 0, 33)
    assert np.array_equal(piece.data, whole["head"].data)
    assert shard.by_parameter({"m": shard.data})["head/m"].shape == (3, 11)
    with pytest.raises(ShapeError) as caught:
        ParameterShard(whole, [(start, start + 16)], shaped=True)
    assert str(caught.value) == "shard: expected all 33 elements of head or none, got 16"

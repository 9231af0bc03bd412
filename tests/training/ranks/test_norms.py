"""The norm of a gradient that ranks share has the bits of one rank, wherever it is cut."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thread_ranks import run_ranks

from tisslm import ops
from tisslm.training.ranks.norms import SharedNorm

BLOCK = ops.NORM_BLOCK
SIZE = 3 * BLOCK + 700
#: Where a block begins, beside it, and elsewhere.
EDGES = st.sampled_from(
    [0, 16, 5000, BLOCK - 16, BLOCK, BLOCK + 16, 2 * BLOCK, 3 * BLOCK, SIZE - 16]
)
GRAD = np.random.default_rng(0).normal(size=SIZE)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@settings(max_examples=20, deadline=None, derandomize=True)
@given(edges=st.sets(EDGES, max_size=7), owners=st.lists(st.integers(0, 2), min_size=9, max_size=9))
def test_wherever_it_is_cut(dtype, edges, owners):
    grad = GRAD.astype(dtype)
    cuts = list(itertools.pairwise(sorted({0, SIZE, *edges})))
    of_ranks = [
        [cut for cut, owner in zip(cuts, owners, strict=False) if owner == rank]
        for rank in range(3)
    ]

    def norm(communicator):
        shared = SharedNorm(grad, of_ranks, communicator)
        own = [((a, b), grad[a:b].copy()) for a, b in of_ranks[communicator.rank]]
        return shared.compute(own), shared.compute(own)

    expected = ops.global_norm(grad)
    assert run_ranks(3, norm) == [(expected, expected)] * 3


def test_nothing_has_no_length():
    assert run_ranks(2, lambda rank: SharedNorm(GRAD[:0], [[], []], rank).compute([])) == [0.0, 0.0]

"""The tree over leaves: one order of additions for any cut among ranks."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tisslm.training.ranks.tree import Fold, Node, nodes_of


def written(left: str, right: str) -> str:
    """Add two sums, in a way that shows what was added to what."""
    return f"({left}+{right})"


def alone(leaves: int) -> str:
    """Return the sum of all leaves, as one rank adds it."""
    fold = Fold(written)
    for leaf in range(leaves):
        fold.put(Node(0, leaf), str(leaf), last=leaf == leaves - 1)
    return fold.total()


def test_neighbours_are_added_first_and_the_one_without_goes_up() -> None:
    assert alone(1) == "0"
    assert alone(2) == "(0+1)"
    assert alone(5) == "(((0+1)+(2+3))+4)"
    assert alone(6) == "(((0+1)+(2+3))+(4+5))"
    assert alone(7) == "(((0+1)+(2+3))+((4+5)+6))"


@given(st.integers(1, 40), st.lists(st.integers(0, 40), max_size=8))
def test_any_cut_among_ranks_adds_in_the_same_order(leaves: int, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, leaves) for cut in cuts), leaves]
    total = Fold(written)
    for low, high in itertools.pairwise(edges):
        own = Fold(written)
        for leaf in range(low, high):
            own.put(Node(0, leaf), str(leaf), last=leaf == high - 1)
        assert [node for node, _ in own.nodes()] == nodes_of(range(low, high))
        for node, value in own.nodes():
            total.put(node, value)
    assert total.total() == alone(leaves)


@given(st.integers(1, 64))
def test_what_waits_is_kept_and_the_last_is_not(leaves: int) -> None:
    kept = []
    fold = Fold(written, lambda value: kept.append(value) or value)
    for leaf in range(leaves):
        fold.put(Node(0, leaf), str(leaf), last=leaf == leaves - 1)
        assert len(fold.nodes()) <= leaves.bit_length()
    assert str(leaves - 1) not in kept
    assert fold.total() == alone(leaves)

"""Rows, micro-batches and leaves: cut by numbers within the update, whoever has them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tisslm.training.ranks.share import Share


@st.composite
def shares(draw: st.DrawFn) -> Share:
    batch_size = draw(st.integers(1, 5))
    rows = draw(st.integers(1, 60))
    parts = draw(st.integers(1, -(-rows // batch_size)))
    return Share(rows, batch_size, parts)


@given(shares(), st.integers(1, 9))
def test_ranks_have_all_rows_once_and_in_order(share: Share, size: int) -> None:
    found = []
    for rank in range(size):
        own = Share(share.rows, share.batch_size, share.parts, rank, size)
        found += own.own_rows
        for leaf in own.leaves:
            assert share.first_row(leaf) < share.first_row(leaf + 1)
            assert share.first_row(leaf) % share.batch_size == 0
    assert found == list(range(share.rows))


@given(shares(), st.data())
def test_a_short_update_lacks_its_last_leaves(share: Share, data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, share.rows))
    present = share.present(rows)
    assert 1 <= present <= share.parts
    assert share.first_row(present - 1) < rows
    assert present == share.parts or share.first_row(present) >= rows


def test_one_rank_has_one_leaf_by_default() -> None:
    share = Share(12, 4, 1)
    assert (list(share.leaves), share.own_rows) == ([0], range(12))


def test_ranks_beyond_the_leaves_have_no_rows() -> None:
    assert [len(Share(8, 2, 2, rank, 3).own_rows) for rank in range(3)] == [0, 4, 4]

"""Who is to blame, from what the ranks say of themselves."""

from __future__ import annotations

from tisslm_mpi.judgement import Said, judge, silent

NAMES = ["rank 0 on a", "rank 1 on b", "rank 2 on c"]
OWN = Said(5.0, "exchange", "step 3")
WAITS = Said(5.0, "exchange", "step 3")
WORKS = Said(1.0, "", "saving")
STANDS = Said(6.0, "", "step 2, barrier")


def judged(one: Said, other: Said) -> str:
    return judge(5.0, OWN, (1,), {1: one, 2: other}, {1: 0.0, 2: 0.0}, NAMES)


def test_what_is_said_comes_back():
    assert Said.decode(OWN.encode()) == OWN


def test_a_rank_that_does_not_answer_is_named():
    assert silent(5.0, OWN, {1: 0.25, 2: 0.5}, NAMES) == ""
    assert silent(5.0, OWN, {1: 2.5, 2: 0.5}, NAMES) == (
        "rank 1 on b has not answered for 5 s (exchange): it has been stopped or has ended, or the "
        "network is cut"
    )


def test_a_rank_that_works_is_waited_for():
    assert judged(WORKS, WAITS) == ""
    assert judged(WORKS, STANDS) == ""


def test_a_rank_that_does_nothing_is_named():
    assert judged(WAITS, STANDS) == (
        "rank 2 on c (after 'step 2, barrier') has done nothing that is known, and others wait for "
        "it for 5 s (exchange)"
    )


def test_ranks_that_wait_for_one_another_are_told_apart():
    assert judged(WAITS, Said(5.0, "barrier", "step 3")) == (
        "all ranks wait for 5 s (exchange), this one for rank 1 on b: rank 1 on b in exchange, "
        "rank 2 on c in barrier; every rank makes the same calls in order"
    )


def test_a_rank_that_has_just_come_is_no_deadlock():
    assert judged(WAITS, Said(0.5, "exchange", "saving")) == ""


def test_nobody_is_judged_before_all_have_answered():
    assert judge(5.0, OWN, (), {1: STANDS}, {1: 0.0, 2: 0.0}, NAMES) == ""

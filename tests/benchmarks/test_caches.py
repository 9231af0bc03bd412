"""What decides whether counted misses mean anything: parsing, counting, the least there can be."""

from __future__ import annotations

import pytest

EVENTS = "Ir I1mr ILmr Dr D1mr DLmr Dw D1mw DLmw"
FILE = f"""desc: D1 cache: 32768 B, 64 B, 8-way associative
cmd: ./caches 1 32768 524288 product forward 2 2 2
events: {EVENTS}
fl=caches.c
fn=product
12 1 0 0 1 1 1 0 0 0
summary: 100 1 1 50 20 10 30 5 4
"""


def test_totals_of_a_file_go_by_their_names(script):
    found = script("caches").counts(FILE)
    assert list(found) == EVENTS.split()
    assert (found["D1mr"], found["DLmw"]) == (20, 4)


@pytest.mark.parametrize("text", ["", "events: Ir Dr\n", "events: Ir Dr\nsummary: 1\n"])
def test_another_file_is_refused(script, text):
    with pytest.raises(ValueError, match="expected one line of events"):
        script("caches").counts(text)


def test_what_one_call_missed_is_the_difference_of_two_runs(script):
    caches = script("caches")
    work = caches.Work("product", "head", "forward", (10, 10, 10))
    once = caches.counts(FILE)
    twice = once | {"D1mr": 30, "D1mw": 7, "DLmr": 11, "DLmw": 4}
    assert caches.of_one_call(once, twice, work) == (12, 1)


def test_attention_counts_the_causal_half(script):
    work = script("caches").Work
    assert (
        work("attention", "", "forward", (128, 2, 64)).multiply_adds == 2 * 2 * 64 * 128 * 128 // 2
    )
    assert (
        work("attention", "", "backward", (128, 2, 64)).multiply_adds == 4 * 2 * 64 * 128 * 128 // 2
    )


def test_lines_count_each_operand_as_often_as_its_blocks_need_it(script):
    blocks = script("caches").Blocks(words=192, group=2, deep=384, wide=192, high=72)
    m, n, k = 384, 1152, 384
    a, b, c = m * k, k * n, m * n
    per_thousand = 1000 / 16 / (m * n * k)
    first, second = blocks.lines("forward", m, n, k)
    # six blocks of six pairs of panels, six chunks, two panels in depth; B is packed
    assert first == pytest.approx((a * 36 + b * 6 + c * 2 + 2 * b) * per_thousand)
    assert second == pytest.approx((a * 6 + b + c) * per_thousand)
    packed, _ = blocks.lines("weight", m, n, k)
    assert packed - first == pytest.approx(2 * 6 * a * per_thousand)


def test_the_least_is_that_of_blocks_which_the_caches_hold(script):
    caches = script("caches")
    product = ("forward", 1024, 1152, 384)
    for name, machine in caches.MACHINES.items():
        least = caches.least_of_product(*product, machine)
        fits = caches.Blocks(words=96, group=4, deep=192, wide=192, high=48)
        assert cost(caches, least) <= cost(caches, fits.lines(*product)), name
        # a cache of S floats lets no order of multiply-adds do with less than 2 / sqrt(S) each
        for lines, size in zip(least, (machine.level_1, machine.level_2), strict=True):
            assert lines > 1000 / 16 * 2 / (size / 4) ** 0.5, name
    one_panel, _ = caches.least_of_product(*product, caches.MACHINES["zen3"], panels=1)
    assert one_panel > 1000 / 16 / caches.NR  # A, once for each panel
    zen3, ice_lake = (
        caches.least_of_product(*product, caches.MACHINES[name]) for name in ("zen3", "ice-lake")
    )
    assert cost(caches, ice_lake) < cost(caches, zen3)


def cost(caches, lines):
    return lines[0] + caches.LATER * lines[1]


def test_sizes_are_those_of_the_kernels(script):
    caches, kernels = script("caches"), script("caches").KERNELS
    level = (kernels / "levels" / "avx2.c").read_text()
    assert f"#define MR {caches.MR}\n" in level
    assert f"#define VL {caches.NR // 2}\n" in level
    assert f"#define TISS_TILE {caches.TILE} " in (kernels / "tiss.h").read_text()


def test_an_unknown_machine_is_a_wrong_usage(script, capsys):
    with pytest.raises(SystemExit) as ended:
        script("caches").run(machine="pdp11")
    assert ended.value.code == 2
    assert "--machine: expected one of zen3, skylake, cascade-lake, ice-lake, got 'pdp11'" in (
        capsys.readouterr().err
    )

"""The soak of ``make soak``, for a few seconds."""

from __future__ import annotations

import random

import pytest
from soak import growth, kills

from tisslm import ops


@pytest.mark.parametrize("kind", [0, 1])
def test_a_few_kills_change_no_file(tmp_path, kind):
    kills.prepare(tmp_path, steps=60, save_every=7)
    found = kills.play(tmp_path, kind, random.Random(kind), (0.0, 0.3), limit=2, from_work=1.0)
    assert not found.differences


def test_files_that_differ_are_told(tmp_path):
    kills.prepare(tmp_path, steps=6, save_every=3)
    kills.reference(tmp_path, 0)
    path = tmp_path / "kind0.toml"
    path.write_text(path.read_text().replace("1e-3", "1.1e-3"))
    found = kills.play(tmp_path, 0, random.Random(0), (0.0, 0.0), limit=0)
    assert {"model.safetensors", "optimizer.safetensors", "metrics"} <= set(found.differences)


def test_hundreds_of_steps_leave_no_files_and_threads_behind(tmp_path):
    before = ops.thread_count().count
    try:
        looks = growth.train(tmp_path, 400, looks=4, threads=1)
    finally:
        ops.set_threads(before)
    assert [look.step for look in looks] == [100, 200, 300, 400]
    assert len({(look.files, look.threads) for look in looks}) == 1
    assert growth.report(looks)[0].startswith("from step 100 to 400: ")

"""How an ending of ``make faults`` is judged, and that its plugin strikes whom it should, once."""

from __future__ import annotations

import pytest
from soak.faults import plugin, striking

VANISHED = "tisslm: rank 1 on a of 3 (process 7): has vanished, before any other"
FAILED = "tisslm: rank 1 on a of 3: has failed, and all ranks are ended"
SILENT = "tisslm: rank 0 on b of 3: rank 1 on a has not answered for 5 s (exchange): it has been"
LEFT = "tisslm: rank 2 on b of 3: rank 1 on a ends, and this one waits (exchange)"
NOTICED = "prterun noticed that process rank 1 with PID 7 on node a exited on"
IMPROPER = "prterun has exited due to process rank 1 with PID 7 on node a exiting"
ABORTED = 'prterun has exited due to process rank 2 with PID 8 on node b calling\n"abort"'
STACKS = "tisslm: rank 0 on b of 3: stacks of its threads:"


def judged(output: str, rank: int = 1, code: int = 76, seconds: float = 7.0) -> striking.Ending:
    found = striking.Ending("way", "fault", rank, seconds, seconds, code, output=output)
    striking.judge(found)
    return found


@pytest.mark.parametrize("line", [VANISHED, FAILED, SILENT, LEFT, NOTICED, IMPROPER])
def test_a_line_that_names_the_culprit_is_found(line):
    found = judged(f"step 7\n{STACKS}\n{line}\n{STACKS}\n")
    assert found.wrong == []
    assert found.said == line


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ({"output": STACKS}, "nobody is named"),
        ({"output": ABORTED}, "nobody is named"),  # which lost another rank, and was ended by MPI
        ({"output": FAILED, "rank": 0}, "rank 1 is blamed"),
        ({"output": FAILED, "code": 0}, "code 0"),
        ({"output": FAILED, "seconds": 15.1}, "not within 15 s"),
        ({"output": FAILED, "seconds": float("nan")}, "not within 15 s"),
    ],
)
def test_what_is_wrong_is_told(arguments, wrong):
    assert judged(**arguments).wrong == [wrong]


def test_where_the_host_of_the_launcher_is_cut_off_it_is_the_others_that_are_missed():
    found = striking.Ending("way", striking.CUT, 0, 7.0, 7.0, 76, output=SILENT)
    striking.judge(found)
    assert found.wrong == []


def test_a_fault_strikes_one_rank_at_one_step_once(tmp_path):
    mark, struck = tmp_path / "mark", tmp_path / "struck"
    told = {"rank": 1, "step": 5, "mark": str(mark), "fault": ["mkdir", str(struck)]}
    for rank, step in ((0, 5), (1, 4), (1, 6)):
        plugin.strike(rank, step, **told)
    assert not mark.exists()
    plugin.strike(1, 5, **told)
    assert float(mark.read_text()) > 0
    struck.rmdir()
    plugin.strike(1, 5, **told)
    assert not struck.exists()

"""Files are handed out whole and in order, and jobs of ranks, from the start, to one process."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from handing_out import ONE_AT_A_TIME, Files

ROOT = Path(__file__).parents[2]
RANKS = [f"{ONE_AT_A_TIME}/test_{name}.py::test_{n}" for name in "ab" for n in range(3)]
OTHERS = [f"tests/test_{name}.py::test_{n}[{{@]" for name in "abcde" for n in range(3)]


class Process:
    """A process of pytest-xdist that does a test when it is asked to."""

    shutting_down = False

    def __init__(self) -> None:
        self.waiting: list[int] = []
        self.done: list[str] = []
        self.gateway = SimpleNamespace(id="gw")

    def send_runtest_some(self, indices: list[int]) -> None:
        self.waiting += indices

    def shutdown(self) -> None:
        self.shutting_down = True


def test_files_are_handed_out_whole_and_ranks_first_to_one_process():
    option = SimpleNamespace(loadscopereorder=False)
    config = SimpleNamespace(option=option, getvalue=lambda name: ["popen", "popen"])
    scheduler, processes = Files(config), [Process(), Process()]
    tests = RANKS + OTHERS
    for process in processes:
        scheduler.add_node(process)
    for process in processes:
        scheduler.add_node_collection(process, tests)
    scheduler.schedule()
    assert [tests[i] for i in processes[0].waiting] == RANKS
    while any(process.waiting for process in processes):
        for process in processes:
            if process.waiting:
                index = process.waiting.pop(0)
                process.done.append(tests[index])
                scheduler.mark_test_complete(process, index)
    first, second = (process.done for process in processes)
    assert first[: len(RANKS)] == RANKS
    assert sorted(first + second) == sorted(tests)
    files = [{test.partition("::")[0] for test in done} for done in (first, second)]
    assert not files[0] & files[1]
    assert second == sorted(second)


def test_the_ranks_are_where_they_are_looked_for():
    assert sorted((ROOT / ONE_AT_A_TIME).glob("test_*.py"))

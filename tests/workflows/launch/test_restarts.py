"""What follows an end of the ranks: another start, or none, and why."""

from __future__ import annotations

import pytest

from tisslm.errors import ConfigError
from tisslm.system.launched import Note
from tisslm.workflows.launch import launch, restarts
from tisslm.workflows.launch.job import Ended

KILLED = "a rank was ended by SIGKILL"


class Jobs:
    """Stands for jobs that end one after the other as they are told to."""

    def __init__(self, folder, ends):
        self.folder, self.ends, self.lines = folder, list(ends), []

    def __call__(self, arguments, ranks, mpi, asking, **more):
        self.lines.append(arguments)
        code, step = self.ends.pop(0)
        note = None
        if step is not None:
            run = self.folder / "run"
            note = Note(str(run), str(run / "checkpoints"), complete=code == 0)
            for number in range(1, step + 1):
                path = run / f"checkpoints/checkpoint-{number}"
                path.mkdir(parents=True, exist_ok=True)
        why = {137: KILLED, 139: "rank 3 (process 17) was ended by SIGSEGV"}
        who = "rank 3 (process 17)" if code == 139 else ""
        return Ended(code, note, why.get(code, f"the ranks ended with code {code}"), who=who)


@pytest.fixture
def play(tmp_path, monkeypatch):
    """``play((code, newest step or None), ..., option=...)``: code, lines told, starts, pauses."""
    pauses = []
    named = lambda folder: list(folder.glob("checkpoint-*"))  # noqa: E731 - folders without files
    monkeypatch.setattr(restarts, "list_checkpoints", named)
    monkeypatch.setattr(restarts.Asking, "pause", lambda self, seconds: pauses.append(seconds))

    def run(*ends, **options):
        jobs, told = Jobs(tmp_path, ends), []
        monkeypatch.setattr(restarts, "run_job", jobs)
        code = launch(None, ranks=1, announce=told.append, **options)
        assert not jobs.ends
        return code, told, jobs.lines, pauses

    return run


@pytest.mark.parametrize("code", [0, 2, 3, 4, 75, 130])
def test_these_ends_are_no_faults(play, code):
    assert play((code, 1), max_restarts=5)[:3] == (code, [], [["train"]])


def test_without_restarts_a_fault_is_the_end(play):
    assert play((137, 1))[:2] == (137, [])


def test_without_restarts_the_rank_that_a_signal_has_ended_is_named(play):
    assert play((139, 1))[:2] == (139, ["rank 3 (process 17) was ended by SIGSEGV"])


def test_after_a_fault_the_runs_own_folder_is_gone_on_with(play, tmp_path):
    code, told, lines, pauses = play((137, 3), (1, 5), (76, 6), (0, 9), max_restarts=3)
    assert code == 0
    assert told == [
        f"{KILLED}; restart 1 of at most 3, in 1 s, goes on from checkpoint-3",
        "the ranks ended with code 1; restart 2 of at most 3, in 2 s, goes on from checkpoint-5",
        "the ranks ended with code 76; restart 3 of at most 3, in 4 s, goes on from checkpoint-6",
    ]
    again = ["--set", f'training.output_dir="{tmp_path}/run"', "--resume", "auto"]
    assert lines == [["train"]] + 3 * [["train", *again]]
    assert pauses == [1.0, 2.0, 4.0]


def test_it_is_given_up_after_the_last_restart(play):
    code, told, _, _ = play((137, 1), (137, 2), (1, 3), max_restarts=2)
    assert code == 1
    assert told[-1] == (
        "the ranks ended with code 1; given up after 2 restarts; when the cause is mended, the "
        "same command with --resume auto goes on"
    )


def test_it_is_given_up_when_two_restarts_in_a_row_come_no_further(play):
    code, told, lines, _ = play((137, 4), (137, 4), (137, 5), (137, 5), (137, 5), max_restarts=9)
    assert code == 137
    assert len(lines) == 5
    assert told[-1] == (
        f"{KILLED}; given up because 2 restarts in a row have not come beyond checkpoint-5; when "
        "the cause is mended, the same command with --resume auto goes on"
    )


def test_a_run_that_nobody_knows_yet_is_started_as_before(play):
    _, told, lines, _ = play((137, None), (0, 1), resume="somewhere", max_restarts=1)
    assert told[0].endswith("goes on from the beginning")
    assert lines == 2 * [["train", "--resume", "somewhere"]]


def test_where_a_checkpoint_was_named_it_is_begun_from_until_there_is_another(play, tmp_path):
    _, _, lines, _ = play((137, 0), (137, 1), (0, 2), resume="somewhere", max_restarts=2)
    own = ["--set", f'training.output_dir="{tmp_path}/run"']
    assert lines[1:] == [
        ["train", *own, "--resume", "somewhere"],
        ["train", *own, "--resume", "auto"],
    ]


def test_wrong_numbers_and_configurations_are_refused_before_anything_starts(play):
    with pytest.raises(ConfigError, match=r"^launch: expected max-restarts of 0 or more, got -1$"):
        play(max_restarts=-1)
    with pytest.raises(ConfigError, match="unknown section"):
        play(overrides=["nothing.x=1"])

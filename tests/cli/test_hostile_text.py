"""Text of files, names and models that would act on a terminal: shown by every command, once."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from terminal import Session, tisslm

from tisslm.checkpoint.owner import FILE
from tisslm.cli._terminal import whole_ends
from tisslm.contracts import RunInfo, Text
from tisslm.system.process_identity import Identity
from tisslm.tracking.sinks.console import ConsoleSink
from tisslm.training.trainer import Trainer

if TYPE_CHECKING:
    from conftest import Cli

#: A title for the window, a colour, a C1 sequence, and a mark that turns the direction.
EVIL = "\x1b]0;mine\x07\x1b[31m\x9b2J\u202e"
SHOWN = r"\x1b]0;mine\x07\x1b[31m\x9b2J\u202e"

ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")


def owner(folder: Path, **changes: Any) -> None:
    """Write the file of an owner on another machine."""
    found = {**vars(Identity.own()), "boot": "another", "host": "h", **changes}
    folder.mkdir(exist_ok=True)
    (folder / FILE).write_text(json.dumps(found))


@pytest.mark.parametrize("field", ["host", "job", "command", "since"])
def test_an_owner_is_named_in_words_that_do_nothing(train: Cli, folder: Path, field: str) -> None:
    owner(folder / "run", **{field: f"x{EVIL}\nerror: y"})
    result = train("training.output_dir=run")
    assert result.code == 3
    assert f"x{SHOWN} error: y" in result.err
    assert not ACTS.search(result.err)
    assert result.err.count("\n") == 1


@pytest.mark.filterwarnings("always::RuntimeWarning")
def test_an_owner_that_is_gone_is_named_in_a_warning_of_one_line(train: Cli, folder: Path) -> None:
    own = Identity.own()
    owner(folder / "run", host=own.host, command=f"x{EVIL}\nerror: y")
    result = train("training.output_dir=run")
    assert result.code == 0
    assert f": x{SHOWN} error: y: its machine was started again since\n" in result.err
    assert not ACTS.search(result.err + result.out)


@pytest.mark.filterwarnings("always::RuntimeWarning")
def test_what_a_part_raises_or_warns_is_one_line(
    train: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError(f"a{EVIL}\nb")

    monkeypatch.setattr("tisslm.tracking.sinks.jsonl.JsonlSink.write", fail)
    result = train("training.output_dir=run")
    assert result.code == 0
    assert result.err == f"warning: sink jsonl is switched off: ValueError: a{SHOWN} b\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("generate", f"x{EVIL}"), 1),
        (("verify", f"x{EVIL}"), 1),
        (("eval", f"x{EVIL}"), 1),
        (("top", f"x{EVIL}"), 1),
        (("report", f"x{EVIL}"), 1),
        (("replay", f"x{EVIL}", "--step", "1"), 3),
        (("plan", "--set", f"model.n_layer={EVIL}"), 3),
        (("plan", "--set", f"model.x{EVIL}=1"), 3),
        (("train", "--set", f"loss.name=x{EVIL}"), 3),
        (("tokenize", f"x{EVIL}", "--out", "shards"), 1),
        (("tokenize", "text.txt", "--out", "s", "--tokenizer", f"x{EVIL}"), 3),
        (("gradcheck", "--component", f"x{EVIL}"), 3),
        ((f"x{EVIL}",), 2),
        (("doctor", f"--x{EVIL}"), 2),
    ],
)
def test_names_are_shown_in_errors(cli: Cli, arguments: tuple[str, ...], code: int) -> None:
    result = cli(*arguments)
    assert (result.code, result.out) == (code, "")
    assert "]0;mine" in result.err
    assert not ACTS.search(result.err)


def test_the_traceback_of_an_error_is_shown_too(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TISSLM_TRACEBACK", "1")
    result = cli("generate", f"x{EVIL}")
    assert "Traceback" in result.err
    assert not ACTS.search(result.err)


def test_a_run_of_any_name_is_shown_by_every_command(train: Cli, cli: Cli, folder: Path) -> None:
    result = train(f"training.output_dir=r{EVIL}", "training.save_every=3")
    assert (result.code, result.err) == (0, "")
    assert f"\nrun: r{SHOWN}\n" in result.out
    assert not ACTS.search(result.out)
    path = f"r{EVIL}"
    commands = (("verify", path), ("eval", path), ("top", path), ("replay", path, "--step", "4"))
    for arguments in (*commands, ("report", path, "-o", "r.html")):
        result = cli(*arguments)
        assert (result.code, result.err) == (0, "")
        assert not ACTS.search(result.out), result.out
    found = json.loads(cli("verify", path, "--json").out)
    assert found[0]["checkpoint"].startswith(path)  # as it is


def test_a_picture_of_a_run_shows_what_its_files_say(cli: Cli, folder: Path) -> None:
    run = folder / "run"
    run.mkdir()
    name = json.dumps(EVIL)
    (run / "config.resolved.toml").write_text(f"[training]\nname = {name}\nmax_steps = 9\n")
    metrics = {"step": 3, "train/loss": 1.0, f"sample/{EVIL}": {"text": f"to{EVIL} be"}}
    (run / "metrics.jsonl").write_text(json.dumps(metrics) + "\n")
    (run / "summary.json").write_text(json.dumps({"status": EVIL, "stopped_by": EVIL}))
    result = cli("top", "run")
    assert result.code == 0
    assert SHOWN in result.out
    assert not ACTS.search(result.out)


def test_a_page_of_a_run_shows_what_its_files_say(cli: Cli, folder: Path) -> None:
    run = folder / "run"
    run.mkdir()
    (run / "config.resolved.toml").write_text(f"[training]\nname = {json.dumps(EVIL)}\n")
    lines = [
        {"step": step, "train/loss": 1.0, f"a{EVIL}": 1.0, "sample/0": {"text": f"to{EVIL} be"}}
        for step in (1, 2)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = cli("report", "run", "-o", "r.html")
    assert result.code == 0
    page = (folder / "r.html").read_text(encoding="utf-8")
    assert f"to{SHOWN} be" in page
    assert not ACTS.search(page)


def test_metrics_and_samples_on_the_console_are_shown(folder: Path) -> None:
    import io

    for style in ("lines", "bar"):
        stream = io.StringIO()
        sink = ConsoleSink(style=style, stream=stream)  # type: ignore[arg-type]
        sink.open(RunInfo(folder, "run", max_steps=5))
        sink.write(1, {f"eval/{EVIL}": 1.0, f"sample/{EVIL}": Text(f"to{EVIL} be :smile:")})
        sink.close()
        text = stream.getvalue()
        assert f"eval {SHOWN} 1.0000" in text
        assert f"    to{SHOWN} be :smile:\n" in text
        assert not re.search("[\x07\x9b\u202e]|\x1b\\]", text)


def test_a_model_s_text_is_shown_on_a_terminal_and_kept_in_a_pipe(
    sessions: list[Session], train: Cli, cli: Cli, folder: Path
) -> None:
    (folder / "text.txt").write_text("a\x1b[31mb\r\nc\td" * 200)
    assert train("training.output_dir=run", "tokenizer.name=char").code == 0
    arguments = ("generate", "run", "--prompt", "a\x1b[31mb\r\n", "--max-new-tokens", "30")
    piped = cli(*arguments)
    assert piped.code == 0
    assert piped.out.startswith("a\x1b[31mb\r\n")
    sessions.append(Session(tisslm(*arguments), folder))
    assert sessions[0].end() == 0
    shown = sessions[0].everything
    assert shown.startswith("a\\x1b[31mb")
    assert "\x1b" not in shown


def test_the_two_characters_of_a_line_s_end_stay_together() -> None:
    pieces = ["a\r", "\nb", "\r", "c", "\r"]
    assert [*whole_ends(pieces)] == ["a", "\r\nb", "", "\rc", "", "\r"]


def test_the_sample_at_the_end_of_a_run_is_shown(train: Cli, folder: Path) -> None:
    (folder / "text.txt").write_text("a\x1b[31mb\x9b" * 300)
    result = train("training.output_dir=run", "tokenizer.name=char")
    assert result.code == 0
    assert "\\x1b" in result.out
    assert not ACTS.search(result.out)


def test_what_a_part_prints_itself_is_its_own(train: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not ours to change: a colour of a plugin's own is meant."""
    monkeypatch.setattr(Trainer, "train", lambda _: print("\x1b[31mred\x1b[0m"))
    assert "\x1b[31mred\x1b[0m\n" in train().out

"""``tisslm``: the table of commands, and how errors, warnings and Ctrl-C look on a terminal.

Each command is a module, imported when the command runs, so ``tisslm --help`` loads typer and
nothing else. Exit codes: 0 done, 1 error, 2 usage, 3 configuration, 4 not finite, 75 saved and to
be started again, 130 interrupted, 141 its reader has left.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Annotated, Any, NoReturn, TextIO

import typer
from typer.core import TyperGroup

from tisslm.cli._terminal import complain, say
from tisslm.errors import ConfigError, NonFiniteError, PluginError, SpikeError, TissLMError
from tisslm.errors.visible import visible
from tisslm.system.launched import take_streams
from tisslm.system.launcher import find_launcher
from tisslm.system.standard_streams import OutputLost, hold_streams, steady

__all__ = ["COMMANDS", "TRACEBACK_VARIABLE", "app", "main"]

#: For each command: the path of its function, and the line that ``tisslm --help`` shows.
COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("tisslm.cli.train:train", "Train a model on text or tokens."),
    "launch": ("tisslm.cli.launch:launch", "Train on several ranks of this machine."),
    "plan": ("tisslm.cli.planning.plan:plan", "Show what a run will take, before it takes it."),
    "project": (
        "tisslm.cli.planning.project:project",
        "Project how fast many nodes would train a run.",
    ),
    "lr-find": ("tisslm.cli.lr_find:lr_find", "Try learning rates that rise on a run."),
    "coord-check": (
        "tisslm.cli.planning.coord_check:coord_check",
        "Compare activations of a run at several widths.",
    ),
    "tokenizer": ("tisslm.cli.tokens.tokenizer:app", "Train a tokenizer on text files."),
    "tokenize": ("tisslm.cli.tokens.tokenize:tokenize", "Turn text files into token shards."),
    "generate": ("tisslm.cli.generate:generate", "Write text with a trained model."),
    "chat": ("tisslm.cli.chat:chat", "Talk to a model that was made for conversations."),
    "eval": ("tisslm.cli.eval:evaluate", "Compute a trained model's loss on held-out text."),
    "embed": ("tisslm.cli.embed:embed", "Write the vectors of texts by a trained encoder."),
    "export": ("tisslm.cli.export:export", "Write a trained model in the files of others."),
    "report": (
        "tisslm.cli.runs.report:report",
        "Show a run, or compare several, as a page of HTML.",
    ),
    "replay": (
        "tisslm.cli.runs.replay:replay",
        "Make a step of a run again, bit for bit, and look in.",
    ),
    "top": ("tisslm.cli.runs.top:top", "Watch a run from another terminal."),
    "verify": ("tisslm.cli.verify:verify", "Compare checkpoints or shards with what was written."),
    "gradcheck": ("tisslm.cli.gradcheck:gradcheck", "Compare every gradient with differences."),
    "plugins": ("tisslm.cli.plugins:plugins", "List every part and who provides it."),
    "doctor": ("tisslm.cli.doctor.command:doctor", "Describe this machine and this installation."),
}

#: The error of typer for a wrong command line: a class of click, or of typer's copy of it.
_UsageProblem: type[BaseException] = typer.BadParameter.__mro__[2]

#: Environment variable; set to 1, it shows the traceback of an error, too.
TRACEBACK_VARIABLE = "TISSLM_TRACEBACK"

#: Seconds for which a process of a launcher waits with its error for the first one to end them all.
PATIENCE = 6.0

#: What a shell shows for a process that a signal has ended.
INTERRUPTED = 128 + signal.SIGINT
READER_LEFT = 128 + signal.SIGPIPE

#: Commands whose results are files: they continue when standard output is closed.
WRITERS = frozenset({"train", "launch", "tokenizer", "tokenize", "embed", "export", "report"})


class LazyCommands(TyperGroup):
    """The group of all commands: imports a command when it is called, and reports its errors."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Replace the stand-in that the help shows by the command itself."""
        name, stand_in, rest = super().resolve_command(ctx, args)
        if name in WRITERS:
            output = steady(sys.stdout)
            if output is not None:
                output.needed = False
        return name, stand_in and _load(str(name)), rest

    def invoke(self, ctx: Any) -> Any:
        """Run a command; an error of TissLM's own becomes a sentence and an exit code."""
        with _printed_warnings():
            try:
                return super().invoke(ctx)
            except TissLMError as error:
                _fail(error, _exit_code(error))
            except (OSError, MemoryError) as error:
                _fail(error, 1)
            except KeyboardInterrupt:
                complain("interrupted")
                raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    name="tisslm",
    cls=LazyCommands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from tisslm.registry.discovery import tisslm_version

        say(f"tisslm {tisslm_version()}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Train transformer language models on multicore CPUs."""


def _stand_in() -> None:
    """Stand for a command in the help until the command is called."""


for _name, (_, _help) in COMMANDS.items():
    app.command(_name, help=_help)(_stand_in)


def _load(name: str) -> Any:
    """Import the function of a command and turn it into a command."""
    module, _, function = COMMANDS[name][0].partition(":")
    found = getattr(import_module(module), function)
    if not isinstance(found, typer.Typer):  # else it has commands of its own
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command(name)(found)
        found = alone
    command = typer.main.get_command(found)
    command.name = name
    return command


def _exit_code(error: TissLMError) -> int:
    if isinstance(error, ConfigError | PluginError):
        return 3
    return 4 if isinstance(error, NonFiniteError | SpikeError) else 1


def _fail(error: BaseException, code: int) -> NoReturn:
    """Print an error as one line and end with its exit code."""
    if isinstance(error, TissLMError) and error.is_told:
        raise typer.Exit(code) from error
    if os.environ.get(TRACEBACK_VARIABLE) == "1":
        complain("".join(traceback.format_exception(error)).rstrip())
    said = f"error: {_line(error) or type(error).__name__}"
    launcher = find_launcher()
    if launcher is not None and launcher.rank:  # what all have said, the first has said for them
        time.sleep(PATIENCE)
        said = f"{said} (rank {launcher.rank} of {launcher.size} on {socket.gethostname()})"
    complain(said)
    raise typer.Exit(code) from error


def _line(message: object) -> str:
    """Return a message as one line, joining its lines."""
    return " ".join(visible(str(message)).split())


@contextlib.contextmanager
def _printed_warnings() -> Iterator[None]:
    """Print warnings as one line each, without the place in the code."""
    launcher = find_launcher()
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        if launcher is not None and launcher.rank:
            warnings.simplefilter("ignore")
        yield


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    from tisslm.config import ConfigNote

    word = "note" if issubclass(category, ConfigNote) else "warning"
    complain(f"{word}: {_line(message)}")


def main(args: Sequence[str] | None = None) -> None:
    """Run ``tisslm`` and exit with its code.

    Parameters
    ----------
    args : sequence of str, optional
        ``sys.argv[1:]`` if left out.
    """
    take_streams()
    hold_streams()
    sys.exit(_without_output(_run(args)))


def _run(args: Sequence[str] | None) -> int:
    """Run a command and return its exit code."""
    try:
        code: int | None = app(
            args=None if args is None else list(args), prog_name="tisslm", standalone_mode=False
        )
        sys.stdout.flush()
    except OutputLost:
        return 0
    except typer.Abort:
        complain("interrupted")
        return INTERRUPTED
    except _UsageProblem as error:
        problem: Any = error
        shown = io.StringIO()
        problem.show(shown)
        complain(shown.getvalue().rstrip("\n"))
        return int(problem.exit_code)
    return code or 0


def _without_output(code: int) -> int:
    """Handle a standard output that has failed; return the exit code that follows."""
    output = steady(sys.stdout)
    if output is None or output.failure is None:
        return code
    reader_left, why = output.failure.errno == errno.EPIPE, output.failure.strerror
    if output.needed:
        if not reader_left:
            complain(f"error: standard output could not be written ({why})")
        return code or (READER_LEFT if reader_left else 1)
    if not reader_left:
        complain(f"warning: standard output could not be written ({why}); the work went on")
    return code

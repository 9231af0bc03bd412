"""A chat template, rendered in a process of its own with limits on time, memory and text.

What that process does is in ``worker``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from tisslm.errors import ConfigError, DataError
from tisslm.errors.visible import visible

__all__ = ["ChatTemplate"]

#: Seconds of processor time for a conversation, and for each of its messages. A known template
#: takes some 100 microseconds.
SECONDS, SECONDS_PER_MESSAGE = 1.0, 0.01
#: Bytes of address space that a template may take, beyond what the process begins with.
MEMORY = 2**28
#: The longest text: this many characters, and that many for each character of the messages.
LONGEST, LONGEST_PER_CHARACTER = 2**20, 4

#: The process imports jinja2 from where this one would, and nothing else.
COMMAND = (
    "import json, runpy, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "runpy.run_path(sys.argv[2], run_name='__main__')"
)
#: Environment variables that it keeps: for libraries, and for the time of day.
KEPT = ("LD_LIBRARY_PATH", "TZ")

LONGEST_REASON = 300  # characters of a template's words in a message

_WHY = {
    "refused": "refuses the conversation ({reason}); mend or remove it",
    "unsafe": "asks for what no template may have ({reason}); use another one",
    "large": "needs too much memory, or writes too long a text; use another one",
    "wrong": "fails ({reason}); mend it, or use another one",
    "slow": "takes more than {reason} s of processor time; use another one",
    "ended": "ended the process that renders it ({reason}); use another one",
}


@final
class ChatTemplate:
    """A jinja2 template that writes conversations as text.

    The process is started by the first conversation, and ends with this object. What a template
    does cannot last, or grow, beyond the limits: the system ends the process.

    Parameters
    ----------
    template : str
    tokens : mapping of str to str
        What the template sees as ``bos_token``, ``eos_token`` and so on.
    specials : sequence of str
        Special tokens, one of which ends a turn.

    Raises
    ------
    ConfigError
        If jinja2 is not installed.
    """

    def __init__(self, template: str, tokens: Mapping[str, str], specials: Sequence[str]) -> None:
        if importlib.util.find_spec("jinja2") is None:
            raise ConfigError(
                "chat template: expected jinja2 to be installed, found none; "
                "pip install tisslm[chat]"
            )
        self._begin = {
            "template": template,
            "tokens": dict(tokens),
            "specials": list(specials),
            "memory": MEMORY,
            "seconds": SECONDS,
        }
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def render(
        self, messages: Sequence[Mapping[str, str]], *, reply: bool = False
    ) -> tuple[str, list[tuple[int, int]]]:
        """Write a conversation.

        Parameters
        ----------
        messages : sequence of mapping
            Each with ``role`` and ``content``.
        reply : bool
            Whether what introduces the assistant's next message follows.

        Returns
        -------
        text : str
        spans : list of (int, int)
            The characters that the assistant says, with the end of its turn: what the template has
            in ``{% generation %}``, or else what each message of the assistant adds. Empty with
            ``reply`` where the template has no such tag.

        Raises
        ------
        DataError
            If the template refuses the conversation, is wrong, or exceeds a limit.
        """
        size = sum(len(message["content"]) for message in messages)
        seconds = SECONDS + SECONDS_PER_MESSAGE * len(messages)
        asked = {
            "messages": [dict(message) for message in messages],
            "reply": reply,
            "seconds": seconds,
            "longest": LONGEST + LONGEST_PER_CHARACTER * size,
        }
        with self._lock:
            if self._process is None:
                self._process = process = _start()
                self._stop = weakref.finalize(self, _end, process)
                self._asked(process, self._begin, SECONDS)
            found = self._asked(self._process, asked, seconds)
        return found["text"], [(start, stop) for start, stop in found["spans"]]

    def _asked(
        self, process: subprocess.Popen[bytes], line: Mapping[str, Any], seconds: float
    ) -> Any:
        """Send a line and return the answer to it."""
        answer = _exchange(process, json.dumps(line).encode() + b"\n")
        if answer is None:
            self._process = None
            code = process.wait()
            self._stop()
            if code == -signal.SIGPROF:
                raise _error("slow", f"{seconds:.1f}".removesuffix(".0"))
            raise _error("ended", f"exit code {code}")
        if "kind" in answer:
            if line is self._begin:
                self._process = None
                self._stop()
            raise _error(answer["kind"], answer["reason"])
        return answer


def _start() -> subprocess.Popen[bytes]:
    """Start the process."""
    paths = [path for path in sys.path if os.path.isabs(path)]
    script = Path(__file__).with_name("worker.py")
    return subprocess.Popen(
        [sys.executable, "-I", "-c", COMMAND, json.dumps(paths), str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in KEPT if name in os.environ},
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def _exchange(process: subprocess.Popen[bytes], line: bytes) -> Any:
    """Write a line and read one; None if the process has ended."""
    if process.stdin is None or process.stdout is None:
        return None
    try:
        process.stdin.write(line)
        process.stdin.flush()
        return json.loads(process.stdout.readline() or "null")
    except (OSError, ValueError):  # it ended on the way
        return None


def _error(kind: str, reason: str) -> DataError:
    words = " ".join(visible(reason).split())
    shown = words if len(words) <= LONGEST_REASON else f"{words[:LONGEST_REASON]}..."
    return DataError(f"the chat template {_WHY[kind].format(reason=shown)}")

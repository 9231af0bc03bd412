"""``tisslm doctor``: facts for a bug report, and what is wrong with the installation.

The facts are collected in ``machine``.
"""

from __future__ import annotations

from json import dumps
from typing import Annotated

import typer

from tisslm.cli._terminal import say
from tisslm.cli.doctor.machine import examine

__all__ = ["doctor"]


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Describe this machine and this installation, and name what is wrong with them.

    It prints versions, the processor, the number of threads and its reason, kernels, BLAS pools,
    memory, plugins and environment variables.
    """
    found = examine()
    if json:
        say(dumps(found, indent=2))
        return
    problems = found.pop("problems")
    for section, facts in found.items():
        say(section)
        for table in facts if isinstance(facts, list) else [facts]:
            for name, value in table.items():
                say(f"  {name:<24} {_words(value)}")
            if not table:
                say("  nothing")
    for problem in problems:
        say(f"problem: {problem}")
    if not problems:
        say("no problems found")


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

"""``docs/interchange.md`` says which models are read, and what arrays are called there."""

from __future__ import annotations

import re
from pathlib import Path

from tisslm.models.huggingface.names import FAMILIES

PAGE = (Path(__file__).parents[2] / "docs" / "interchange.md").read_text("utf-8")
COLUMNS = {"gpt2": 1, "llama": 2, "mistral": 2, "qwen2": 2, "qwen3": 2, "gpt_neox": 3}


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading."""
    part = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|") and "---" not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_architecture_is_in_the_table() -> None:
    named = {re.sub("`", "", row[0]) for row in rows("A published model")[1:]}
    assert named == set(FAMILIES)


def test_the_example_runs() -> None:
    example = re.findall(r"```python\n(.*?)```", PAGE.split("\n## What ours are called\n")[1], re.S)
    exec(example[0], {})


def test_names_are_those_of_the_tables() -> None:
    table = rows("Names")
    for name, family in FAMILIES.items():
        said: dict[str, set[str]] = {}
        for row in table[1:]:
            ours = re.findall(r"`([^`]+)`", row[0])
            theirs = re.findall(r"`([^`]+)`", row[COLUMNS[name]])
            for place in ours:
                here = place if "." in place else f"{ours[0].rpartition('.')[0]}.{place}"
                here = here.lstrip(".")
                said[here] = {t.rpartition(".")[2] for t in theirs}
        for line in family.lines:
            last = line.theirs.rpartition(".")[2]
            assert last in said[line.ours.replace("{i}", "i")], (name, line)
        assert family.head[0] in said["head"]

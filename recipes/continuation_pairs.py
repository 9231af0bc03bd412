"""Pairs of continuations of a text, of which one is the right one: a text that every Python has.

    python recipes/continuation_pairs.py pairs

writes 320 pairs to ``pairs/train.jsonl`` and 100 others to ``pairs/valid.jsonl``, for the recipe
``continuation-pairs.toml``. A prompt is the beginning of a paragraph of Python's language
reference; the chosen answer is how it goes on, the rejected one the same words in another order.
With ``other`` behind the folder, it is how another paragraph goes on, which takes a model that
knows what it reads. One Python gives the same files each time.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from tisslm.datasets.sources.python_docs import python_docs_text

TRAIN, VALID = 320, 100
#: Characters of a prompt, and of an answer; both end where a word does.
PROMPT, ANSWER = 60, 50


def cut(text: str, length: int) -> tuple[str, str]:
    """Return the beginning of a text, up to a blank, and the rest with that blank."""
    place = text.rindex(" ", 0, length)
    return text[:place], text[place:]


def parts() -> list[tuple[str, str]]:
    """Return beginning and continuation of each paragraph of prose, in a drawn order."""
    found = []
    for paragraph in python_docs_text().split("\n\n"):
        text = " ".join(paragraph.split())
        is_prose = text[:1].isupper() and text.isascii() and " " in text[1:20]
        if is_prose and len(text) > PROMPT + 2 * ANSWER:
            begin, rest = cut(text, PROMPT)
            found.append((begin, cut(rest, ANSWER + 1)[0]))
    found = sorted(set(found))
    random.Random(7).shuffle(found)
    return found


def shuffled(text: str, draw: random.Random) -> str:
    """Return the words of a text in another order."""
    words = text.split()
    drawn = words[:]
    while drawn == words:
        draw.shuffle(drawn)
    return " " + " ".join(drawn)


def main() -> None:
    """Write both files to the folder that the command names."""
    if len(sys.argv) < 2 or sys.argv[2:] not in ([], ["other"]):
        sys.exit("usage: python continuation_pairs.py FOLDER [other]")
    folder, draw = Path(sys.argv[1]), random.Random(11)
    folder.mkdir(parents=True, exist_ok=True)
    found = parts()[: TRAIN + VALID]
    for name, part in (("train", found[:TRAIN]), ("valid", found[TRAIN:])):
        if sys.argv[2:]:
            others = [answer for _, answer in part[1:] + part[:1]]
        else:
            others = [shuffled(answer, draw) for _, answer in part]
        records = (
            {"prompt": prompt, "chosen": chosen, "rejected": rejected}
            for (prompt, chosen), rejected in zip(part, others, strict=True)
        )
        lines = (json.dumps(record) + "\n" for record in records)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()

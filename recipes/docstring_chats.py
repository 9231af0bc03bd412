"""Chats about Python's standard library, made of its docstrings: a text that every Python has.

    python recipes/docstring_chats.py chats

writes 200 chats to ``chats/train.jsonl`` and 40 others to ``chats/valid.jsonl``, for the recipe
``smollm2-chats.toml``. A question is what a function or class does, and the answer is the first
paragraph of its docstring; every fourth chat has a second one. One Python gives the same files each
time.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

TRAIN, VALID = 200, 40
MODULES = """
argparse ast asyncio base64 bisect calendar cmd codecs collections concurrent.futures
configparser contextlib copy csv datetime decimal difflib dis email.message email.utils enum
fileinput fnmatch fractions ftplib functools gettext glob gzip hashlib heapq hmac html
http.client http.cookies imaplib inspect io ipaddress itertools json linecache locale logging
mailbox mimetypes multiprocessing numbers operator os os.path pathlib pickle pkgutil platform
plistlib poplib pprint queue random re reprlib sched secrets selectors shelve shlex shutil
signal smtplib socket socketserver sqlite3 statistics string struct subprocess symtable tarfile
tempfile textwrap threading timeit tokenize traceback tracemalloc types typing unittest
urllib.parse urllib.request uuid warnings wave weakref xml.etree.ElementTree zipfile zlib
""".split()  # noqa: SIM905 (a line for each would be a page)
QUESTIONS = (
    "What does `{}` do?",
    "What is `{}` for?",
    "Explain `{}` of Python's standard library.",
)


def described() -> Iterator[tuple[str, str]]:
    """Yield dotted name and first paragraph of everything that is documented in a few lines."""
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in sorted(getattr(module, "__all__", None) or vars(module)):
            thing = getattr(module, name, None)
            own = getattr(thing, "__module__", None) == module_name
            if name.startswith("_") or not own or not callable(thing):
                continue
            first = (inspect.getdoc(thing) or "").split("\n\n")[0]
            text = " ".join(first.split())
            if 40 <= len(text) <= 400 and text.isascii():
                yield f"{module_name}.{name}", text


def chats() -> list[list[dict[str, str]]]:
    """Return all chats in an order that follows from the names."""
    found = sorted(described(), key=lambda pair: hashlib.sha256(pair[0].encode()).hexdigest())
    told: set[str] = set()
    made: list[list[dict[str, str]]] = []
    rest = iter([pair for pair in found if not (pair[1] in told or told.add(pair[1]))])
    for number in range(TRAIN + VALID):
        messages = []
        for turn in range(2 if number % 4 == 3 else 1):
            name, text = next(rest)
            question = QUESTIONS[(number + turn) % len(QUESTIONS)].format(name)
            messages += [
                {"role": "user", "content": question},
                {"role": "assistant", "content": text},
            ]
        made.append(messages)
    return made


def main() -> None:
    """Write both files to the folder that the command names."""
    if len(sys.argv) != 2:
        sys.exit("usage: python docstring_chats.py FOLDER")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # modules that a later Python will not have
        made = chats()
    for name, part in (("train", made[:TRAIN]), ("valid", made[TRAIN:])):
        lines = (json.dumps({"messages": messages}) + "\n" for messages in part)
        (folder / f"{name}.jsonl").write_text("".join(lines))


if __name__ == "__main__":
    main()

"""Scored pairs of texts from WordNet: how close two nouns are in its tree, and their definitions.

    python recipes/wordnet_scores.py /usr/share/wordnet scores.jsonl

Each line has ``sentence1``, ``sentence2`` and ``score``, as ``[data]`` of an encoder reads them.
The score is the path similarity, 1 / (1 + d), with d the fewest steps from one noun up to a common
hypernym and down to the other. Half of the pairs are a few steps apart, half are drawn at random.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Mapping
from pathlib import Path

PAIRS, STEPS, SEED = 40_000, 6, 1


def read(path: Path) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return the definition of each noun's synset, and the synsets right above it."""
    glosses, above = {}, {}
    for line in path.read_text(encoding="latin-1").splitlines():
        if line.startswith("  "):  # the licence
            continue
        fields, _, gloss = line.partition(" | ")
        parts = fields.split()
        n_words = int(parts[3], 16)
        pointers = parts[5 + 2 * n_words :]
        above[parts[0]] = [
            pointers[i + 1] for i in range(0, len(pointers), 4) if pointers[i] in ("@", "@i")
        ]
        glosses[parts[0]] = re.split(r'; "', gloss.strip())[0].strip(" ;")
    return glosses, above


def distances_up(synset: str, above: Mapping[str, list[str]]) -> dict[str, int]:
    """Return every synset on the way up, with the fewest steps to it."""
    found, edge, steps = {synset: 0}, [synset], 0
    while edge:
        steps += 1
        edge = [up for one in edge for up in above[one] if up not in found]
        found.update(dict.fromkeys(edge, steps))
    return found


def similarity(a: str, b: str, above: Mapping[str, list[str]]) -> float:
    """Return 1 / (1 + d); 0 if nothing is above both."""
    up_a, up_b = distances_up(a, above), distances_up(b, above)
    apart = min((up_a[one] + up_b[one] for one in up_a.keys() & up_b.keys()), default=None)
    return 0.0 if apart is None else 1.0 / (1 + apart)


def main() -> None:
    """Write the pairs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where WordNet's files are")
    parser.add_argument("out", type=Path, help="the file to write")
    given = parser.parse_args()
    try:
        glosses, above = read(given.folder / "data.noun")
    except OSError as error:
        parser.error(f"expected WordNet's data.noun in {given.folder}: {error.strerror}")
    below: dict[str, list[str]] = {}
    for one, ups in above.items():
        for up in ups:
            below.setdefault(up, []).append(one)
    draw, synsets = random.Random(SEED), sorted(glosses)
    with given.out.open("w", encoding="utf-8") as file:
        for n in range(PAIRS):
            a = b = draw.choice(synsets)
            if n % 2:
                b = draw.choice(synsets)
            else:
                for _ in range(draw.randint(1, STEPS)):
                    b = draw.choice(above[b] + below.get(b, []) or [b])
            if a != b and glosses[a] and glosses[b]:
                score = round(similarity(a, b, above), 4)
                pair = {"sentence1": glosses[a], "sentence2": glosses[b], "score": score}
                file.write(json.dumps(pair, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

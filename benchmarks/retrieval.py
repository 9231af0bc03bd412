"""Retrieval: how often held-out texts find each other, by an encoder and by the words they share.

    python benchmarks/retrieval.py /usr/share/wordnet --run runs/wordnet

The words they share are weighed by tf-idf, (1 + ln tf) ln(1 + N / df), df among the N documents
that are searched: what an encoder has to be better than.

What does not live here: the measures (``tisslm.tracking.embedding_measures``).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import clone  # noqa: F401 (finds tisslm)
import numpy as np
import typer
from command import JsonFile
from machine import describe, stop, write_json
from numpy.typing import NDArray

from tisslm import load_encoder
from tisslm.datasets.examples import example_source
from tisslm.errors import TissLMError
from tisslm.tracking.embedding_measures import retrieval

Array = NDArray[np.float32]
SHOWN = ("recall_at_1", "recall_at_5", "recall_at_10", "mrr_at_10", "ndcg_at_10")


class TfIdf:
    """Texts as the words they have."""

    def __init__(self, documents: Sequence[str]) -> None:
        df = Counter(word for text in documents for word in set(words(text)))
        self._place = {word: i for i, word in enumerate(df)}
        self._idf = {word: math.log(1 + len(documents) / n) for word, n in df.items()}

    def vectors(self, texts: Sequence[str]) -> Array:
        """Return a row for each text; a word that no document has counts nothing."""
        found = np.zeros((len(texts), len(self._place)), np.float32)
        for row, text in zip(found, texts, strict=True):
            for word, n in Counter(words(text)).items():
                if word in self._place:
                    row[self._place[word]] = (1 + math.log(n)) * self._idf[word]
        return found


def words(text: str) -> list[str]:
    """Return the words of a text, in small letters."""
    return re.findall(r"\w+", text.lower())


def measured(
    queries: Sequence[str],
    documents: Sequence[str],
    relevant: Sequence[NDArray[np.int64]],
    of_query: Callable[[Sequence[str]], Array],
    of_document: Callable[[Sequence[str]], Array],
) -> Mapping[str, float]:
    """Return the measures of vectors."""
    return dict(retrieval(of_query(queries), of_document(documents), relevant))


def run(
    path: Annotated[Path, typer.Argument(help="Examples, as [data] path has them.")],
    encoder: Annotated[list[Path], typer.Option("--run", help="A run of an encoder.")],
    valid_examples: Annotated[int, typer.Option(min=2, help="As the runs held out.")] = 1000,
    json: JsonFile = None,
) -> None:
    """Search the second texts of the held-out examples by their first."""
    try:
        source = example_source(str(path), valid_examples=valid_examples, held_out=True, quiet=True)
        found: dict[str, list[str]] = {}
        for example in source.examples():
            found.setdefault(example.texts[0], []).append(example.texts[1])
        queries = list(found)
        documents = list(dict.fromkeys(text for texts in found.values() for text in texts))
        place = {text: i for i, text in enumerate(documents)}
        relevant = [np.unique([place[text] for text in texts]) for texts in found.values()]
        by_words = TfIdf(documents)
        results = {
            "tf-idf": measured(queries, documents, relevant, by_words.vectors, by_words.vectors)
        }
        for model in encoder:
            one = load_encoder(model)
            results[str(model)] = measured(
                queries, documents, relevant, one.encode_query, one.encode_document
            )
    except TissLMError as error:
        stop(str(error), 2)
    print(f"{len(queries)} queries among {len(documents)} documents")
    print(table(results))
    write_json(json, {"path": str(path), "machine": describe(), "results": results})


def table(results: Mapping[str, Mapping[str, float]]) -> str:
    """Lay the results out for reading."""
    width = max(map(len, results))
    lines = [" " * width + "".join(f"{name:>14}" for name in SHOWN)]
    for who, found in results.items():
        lines.append(f"{who:{width}}" + "".join(f"{found[name]:14.3f}" for name in SHOWN))
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(run)

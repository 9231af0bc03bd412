"""Examples of embedding learning: texts that belong together, as rows of token ids."""

from __future__ import annotations

from tisslm.datasets.examples.dataset import ExampleDataset, example_source
from tisslm.datasets.examples.reading import ExampleSource, read_examples
from tisslm.datasets.examples.records import Example
from tisslm.datasets.examples.texts import FlatTexts, TextIds

__all__ = [
    "Example",
    "ExampleDataset",
    "ExampleSource",
    "FlatTexts",
    "TextIds",
    "example_source",
    "read_examples",
]

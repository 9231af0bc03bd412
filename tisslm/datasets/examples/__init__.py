"""Examples of several texts: those that belong together, and answers of which one is preferred."""

from __future__ import annotations

from tisslm.datasets.examples.dataset import ExampleDataset, example_source
from tisslm.datasets.examples.held_out import RecordSource
from tisslm.datasets.examples.preference_records import Preference, read_preferences
from tisslm.datasets.examples.preferences import PreferenceDataset, preference_source
from tisslm.datasets.examples.reading import read_examples
from tisslm.datasets.examples.records import Example
from tisslm.datasets.examples.texts import FlatTexts, TextIds

__all__ = [
    "Example",
    "ExampleDataset",
    "FlatTexts",
    "Preference",
    "PreferenceDataset",
    "RecordSource",
    "TextIds",
    "example_source",
    "preference_source",
    "read_examples",
    "read_preferences",
]

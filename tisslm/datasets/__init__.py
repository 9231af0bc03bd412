"""Where the tokens of a run come from: windows over texts and arrays, in a keyed order.

What does not live here: tokenizers, and the choice of a file by a configuration.
"""

from __future__ import annotations

from tisslm.datasets.permutation import KeyedPermutation
from tisslm.datasets.python_docs import python_docs_text
from tisslm.datasets.text import TextDataset, read_text, split_text
from tisslm.datasets.tokens import TokenDataset

__all__ = [
    "KeyedPermutation",
    "TextDataset",
    "TokenDataset",
    "python_docs_text",
    "read_text",
    "split_text",
]

"""Making token shards and tokenizers from text, in bounded memory.

Shards are read in ``tisslm.datasets.shards``.
"""

from __future__ import annotations

from tisslm.system.durable import write_new_file
from tisslm.workflows.tokenize.choice import choose_tokenizer, load_tokenizer
from tisslm.workflows.tokenize.folder import ShardFolder, check_new
from tisslm.workflows.tokenize.pipeline import Tokenized, n_bytes, tokenize
from tisslm.workflows.tokenize.training import train_bpe

__all__ = [
    "ShardFolder",
    "Tokenized",
    "check_new",
    "choose_tokenizer",
    "load_tokenizer",
    "n_bytes",
    "tokenize",
    "train_bpe",
    "write_new_file",
]

"""``tisslm tokenize`` and ``tisslm tokenizer``: text files, and what turns them into tokens."""

"""``tisslm doctor``: the command, and the facts that it shows."""

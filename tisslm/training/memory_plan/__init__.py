"""The memory of a run: what each part of it takes, and whether the whole fits."""

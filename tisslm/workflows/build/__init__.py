"""A configuration becomes a Trainer."""

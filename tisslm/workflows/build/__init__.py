"""Building a Trainer from a configuration."""

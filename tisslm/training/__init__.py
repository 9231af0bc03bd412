"""The Trainer and all that it trains by."""

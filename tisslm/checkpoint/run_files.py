"""Names of the files in a run directory."""

from __future__ import annotations

__all__ = ["CONFIG", "ENVIRONMENT", "METRICS", "SUMMARY"]

CONFIG = "config.resolved.toml"
SUMMARY = "summary.json"
ENVIRONMENT = "environment.json"

#: The file of the sink ``jsonl``.
METRICS = "metrics.jsonl"

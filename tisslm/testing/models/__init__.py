"""Conformance checks of model families, and of the models that they build."""

from __future__ import annotations

from tisslm.testing.models.families import check_model

__all__ = ["check_model"]

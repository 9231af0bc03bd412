"""How rotary positions are stretched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class RopeScaling:
    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> RopeScaling:
        return cls()

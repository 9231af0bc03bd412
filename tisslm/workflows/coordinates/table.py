"""What a coordinate check found: sizes of activations by place, step and width."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tisslm.workflows.coordinates.widths import Widths

__all__ = ["FLAT", "SCORES", "Coordinates"]

#: The largest size of a place over its least, over all widths, that counts as flat.
FLAT = 2.0

#: How the places of attention's scores end.
SCORES = ".scores"


@dataclass(frozen=True)
class Coordinates:
    """Mean absolute values, the mean over seeds, of what each part computes of the same text.

    Attributes
    ----------
    widths : Widths
    rate : float
        The constant learning rate.
    seeds : tuple of int
    sizes : mapping of str to tuple
        For each place a tuple for each step, from 0 (before any update), of a size for each width.
    losses : tuple of tuple of float
        The training loss at each step, by width.
    """

    widths: Widths
    rate: float
    seeds: tuple[int, ...]
    sizes: Mapping[str, tuple[tuple[float, ...], ...]]
    losses: tuple[tuple[float, ...], ...]

    @property
    def steps(self) -> int:
        """The number of updates."""
        return len(self.losses) - 1

    def ratio(self, place: str, step: int = -1) -> float:
        """Return the largest size of a place over its least, at a step; by default, the last.

        It is infinite where a size is zero or not finite.
        """
        found = self.sizes[place][step]
        return max(found) / min(found) if _positive(found) else math.inf

    def growth(self, place: str, step: int = -1) -> float:
        """Return the most by which a size is larger at a wider model than at a narrower one.

        It is infinite where a size is zero or not finite.
        """
        found = self.sizes[place][step]
        if not _positive(found):
            return math.inf
        least = [min(found[: number + 1]) for number in range(len(found))]
        return max(size / low for size, low in zip(found, least, strict=True))

    @property
    def largest(self) -> tuple[str, float]:
        """The place that differs most between widths after the last step, and the factor.

        Scores of wide heads are smaller until queries have found their keys, so of these only
        growth counts.
        """
        factors = {
            place: self.growth(place) if place.endswith(SCORES) else self.ratio(place)
            for place in self.sizes
        }
        place = max(factors, key=lambda name: factors[name])
        return place, factors[place]

    @property
    def flat(self) -> bool:
        """Whether no place differs by more than ``FLAT`` after the last step."""
        return self.largest[1] <= FLAT

    def facts(self) -> dict[str, Any]:
        """Return everything as plain JSON values; None for a number that is not finite."""
        return {
            "widths": list(self.widths.widths),
            "base": self.widths.base,
            "learning_rate": self.rate,
            "seeds": list(self.seeds),
            "steps": self.steps,
            "flat": self.flat,
            "sizes": {place: [_plain(s) for s in steps] for place, steps in self.sizes.items()},
            "ratios": {
                place: _plain([self.ratio(place, step) for step in range(len(steps))])
                for place, steps in self.sizes.items()
            },
            "losses": [_plain(step) for step in self.losses],
        }


def _positive(sizes: Sequence[float]) -> bool:
    """Say whether sizes can be compared; comparing NaN is never true, and ``max`` may hide it."""
    return all(0.0 < size < math.inf for size in sizes)


def _plain(numbers: Sequence[float]) -> list[float | None]:
    """Return numbers as JSON knows them."""
    return [number if math.isfinite(number) else None for number in numbers]

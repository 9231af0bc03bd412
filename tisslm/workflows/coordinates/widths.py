"""The shape of a run at other widths, with muP or without."""

from __future__ import annotations

from dataclasses import dataclass

from tisslm.config.model import TransformerConfig
from tisslm.errors import ConfigError

__all__ = ["Widths"]


@dataclass(frozen=True)
class Widths:
    """The widths of a coordinate check, and what grows with them.

    Attributes
    ----------
    widths : tuple of int
        Channels, at least two numbers of them, ascending.
    base : int
        The width at which muP changes nothing; 0 is without muP.
    head_dim : int
        Channels of a head at every width; 0: heads are as many as the run has, and grow.

    Raises
    ------
    ConfigError
        If widths are too few or do not ascend.
    """

    widths: tuple[int, ...] = (128, 256, 512, 1024)
    base: int = 0
    head_dim: int = 0

    def __post_init__(self) -> None:
        ascending = all(a < b for a, b in zip(self.widths, self.widths[1:], strict=False))
        if len(self.widths) < 2 or self.widths[0] < 1 or not ascending:
            raise ConfigError(
                "coordinate check: expected at least two widths, ascending, got "
                f"{', '.join(map(str, self.widths)) or 'none'}"
            )

    def shape(self, own: TransformerConfig, width: int) -> TransformerConfig:
        """Return the shape of a run at a width: heads and MLP keep their share of the channels.

        Parameters
        ----------
        own : TransformerConfig
            That of the run.
        width : int

        Raises
        ------
        ConfigError
            If so many channels cannot be shared out so.
        """
        heads, size = self._heads(own, width)
        shared = max(1, heads * own.n_kv_head // own.n_head)
        values = {
            **own.values(),
            "n_embd": width,
            "n_head": heads,
            "n_kv_head": next(k for k in range(shared, 0, -1) if heads % k == 0),
            "head_dim": size,
            "n_hidden": self._hidden(own, width),
            "mup_base_width": self.base,
            "mup_base_head_dim": self.head_dim if self.base else 0,
        }
        return TransformerConfig(family=own.family, **values)

    def _heads(self, own: TransformerConfig, width: int) -> tuple[int, int]:
        """Return how many heads there are, and their channels."""
        channels = own.n_head * own.head_dim * width
        divisor = own.n_embd * (self.head_dim or own.n_head)
        if channels % divisor:
            kind = f"heads of {self.head_dim}" if self.head_dim else f"{own.n_head} heads"
            raise ConfigError(
                f"coordinate check: {width} channels cannot be shared out among {kind}; give "
                "other widths, or another head_dim"
            )
        found = channels // divisor
        return (found, self.head_dim) if self.head_dim else (own.n_head, found)

    @staticmethod
    def _hidden(own: TransformerConfig, width: int) -> int:
        """Return the width of the MLP: derived where the run's is, else of the same share."""
        derived = TransformerConfig(family=own.family, **{**own.values(), "n_hidden": 0})
        if derived.n_hidden == own.n_hidden:
            return 0
        return max(1, round(own.n_hidden * width / own.n_embd))

"""A dataset of a few windows of another one, in the same order in every epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from tisslm.contracts import Dataset, Rows
from tisslm.errors import DataError

__all__ = ["FewWindows"]


@final
class FewWindows(Dataset):
    """A subset of the windows of another dataset.

    Parameters
    ----------
    whole : Dataset
    numbers : sequence of int
        The numbers of the windows, at least one; each in ``range(len(whole))``.
    """

    def __init__(self, whole: Dataset, numbers: Sequence[int]) -> None:
        self.whole = whole
        self.seq_len, self.vocab_size = whole.seq_len, whole.vocab_size
        self.batch_size, self.seed = whole.batch_size, whole.seed
        self.numbers = [int(number) for number in numbers]

    def __len__(self) -> int:
        return len(self.numbers)

    def window(self, i: int) -> Rows:
        """Return inputs and targets of the i-th window, as the whole has them.

        Raises
        ------
        DataError
            If there is no such window.
        """
        if not 0 <= i < len(self.numbers):
            raise DataError(f"dataset: expected a window number in range({len(self)}), got {i}")
        return self.whole.window(self.numbers[i])

    def order(self, seed: int, epoch: int) -> Sequence[int]:
        """Return the windows in their order: every epoch has the same steps."""
        return range(len(self.numbers))

    @property
    def nbytes(self) -> int:
        """The bytes of the whole dataset, which is kept."""
        return self.whole.nbytes

    def state(self) -> dict[str, Any]:
        """Return the state of the whole dataset."""
        return self.whole.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore the state of the whole dataset."""
        self.whole.load_state(state)

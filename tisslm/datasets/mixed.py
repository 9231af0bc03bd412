"""A mixture of several datasets by weight."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from numbers import Real
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import Dataset, Rows
from tisslm.contracts.rows import check_rows
from tisslm.datasets.rows import RowDataset, take
from tisslm.errors import ConfigError

__all__ = ["MixedDataset", "shares"]

IntArray = NDArray[Any]


class MixedDataset(RowDataset):
    """Rows of several datasets, mixed by weight: exactly, evenly, and without a draw.

    An epoch has as many rows as the datasets together. Of these, dataset s gives its share by
    weight, rounded to whole rows, spread evenly over the epoch. It gives its own rows in its own
    order and goes on in the next epoch where it stopped: one that is smaller than its share
    begins again, in a new order, each time that all of its rows were read; of one that is larger,
    the rest follows in later epochs.

    ``window(i)`` counts the rows of the first dataset, then those of the second, and so on; an
    evaluation reads each once.

    Parameters
    ----------
    parts : iterable of (Dataset, float)
        Datasets of one ``seq_len``, and their weights: positive numbers with any sum.
    batch_size, seed : int, optional
        What iteration over the dataset uses; the Trainer fills them in when left out.

    Raises
    ------
    ConfigError
        If there is no dataset, a weight is not positive, or ``seq_len`` differs.
    """

    def __init__(
        self,
        parts: Iterable[tuple[Dataset, float]],
        *,
        batch_size: int | None = None,
        seed: int | None = None,
    ) -> None:
        parts = list(parts)
        check_parts(parts)
        self.parts = [dataset for dataset, _ in parts]
        self.weights = [float(weight) for _, weight in parts]
        self.seq_len = self.parts[0].seq_len
        self.vocab_size = max(dataset.vocab_size for dataset in self.parts)
        self.batch_size = batch_size
        self.seed = seed
        starts = [_has_starts(dataset, number) for number, dataset in enumerate(self.parts)]
        self.has_starts = any(starts)
        self._firsts = np.cumsum([0, *(len(dataset) for dataset in self.parts)])
        self._shares = shares(self.weights, int(self._firsts[-1]))

    def __len__(self) -> int:
        return int(self._firsts[-1])

    @property
    def nbytes(self) -> int:
        """The bytes of all datasets."""
        return sum(dataset.nbytes for dataset in self.parts)

    def order(self, seed: int, epoch: int) -> Sequence[int]:
        """Return the row for each position of an epoch; looking one up takes constant time.

        It is no permutation: rows of a dataset with a small share may be missing, and rows of one
        with a large share may be repeated.
        """
        return _MixedOrder(self.parts, self._firsts, self._shares, seed, epoch)

    def check_source(self) -> None:
        """Raise ``DataError`` if a file that is read was changed since it was opened."""
        for dataset in self.parts:
            if isinstance(dataset, RowDataset):
                dataset.check_source()

    def scratch(self) -> Any:
        """Return the scratch of each dataset that fills rows."""
        return [d.scratch() if isinstance(d, RowDataset) else None for d in self.parts]

    def fill(self, i: int, rows: Rows, place: int, scratch: Any) -> None:
        """Write row ``i``; that of a dataset without starts is one document."""
        number = int(np.searchsorted(self._firsts, i, side="right")) - 1
        dataset, i = self.parts[number], i - int(self._firsts[number])
        if rows.start is not None:
            rows.start[place] = 0
        if isinstance(dataset, RowDataset):
            dataset.fill(i, rows, place, scratch[number])
            return
        window = dataset.window(i)
        rows.x[place], rows.y[place] = window.x, window.y
        if rows.start is not None and window.start is not None:
            rows.start[place] = window.start


def _has_starts(dataset: Dataset, number: int) -> bool:
    """Tell whether the rows of a dataset have starts; refuse those with arrays of other names."""
    window = check_rows(dataset.window(0), f"mixing: dataset {number}")
    if window.others:
        raise ConfigError(
            f"mixing: expected dataset {number} to have x, y and start only, got "
            f"{', '.join(window.others)}, too; datasets with arrays of their own cannot be mixed"
        )
    return window.start is not None


def shares(weights: Sequence[float], rows: int) -> list[int]:
    """Divide the rows of an epoch by weight, into whole numbers with the same total.

    Each number is the exact share rounded down, plus one for those that lost most by rounding.

    Examples
    --------
    >>> shares([0.5, 0.3, 0.2], 9)
    [4, 3, 2]
    """
    total = sum(map(Fraction, weights))
    exact = [Fraction(weight) * rows / total for weight in weights]
    found = [math.floor(share) for share in exact]
    lost = sorted(range(len(exact)), key=lambda s: (found[s] - exact[s], s))
    for s in lost[: rows - sum(found)]:
        found[s] += 1
    return found


def check_parts(parts: Sequence[tuple[Dataset, float]]) -> None:
    """Raise an error for weights that are not positive, and datasets that do not fit together."""
    if not parts:
        raise ConfigError("mixing: expected at least one dataset, got none")
    for number, (dataset, weight) in enumerate(parts):
        real = isinstance(weight, Real) and not isinstance(weight, bool)
        if not real or not math.isfinite(weight) or weight <= 0:
            raise ConfigError(
                f"mixing: expected a positive weight of dataset {number}, got {weight!r}; "
                "leave out what is not to be read"
            )
        if dataset.seq_len != parts[0][0].seq_len:
            raise ConfigError(
                f"mixing: expected datasets of one seq_len, got {parts[0][0].seq_len} and "
                f"{dataset.seq_len} (dataset {number}); build them with the same"
            )


class _MixedOrder(Sequence[int]):
    """The row for each position of one epoch.

    The datasets are split off one after another: of n positions that remain for the datasets s, s +
    1, ..., dataset s takes its share k by the rule of Bresenham's line, position p if ``(p + 1) * k
    // n > p * k // n``; it has then had ``p * k // n`` positions before. The others are numbered
    anew.
    """

    def __init__(
        self,
        parts: Sequence[Dataset],
        firsts: NDArray[np.int64],
        epoch_shares: Sequence[int],
        seed: int,
        epoch: int,
    ) -> None:
        self._parts, self._firsts, self._shares = parts, firsts, epoch_shares
        self._seeds = [_seed(seed, number) for number in range(len(parts))]
        self._epoch = epoch
        self._orders: dict[tuple[int, int], Sequence[int]] = {}

    def __len__(self) -> int:
        return int(self._firsts[-1])

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> list[int]: ...

    def __getitem__(self, index: int | slice) -> int | list[int]:
        places = range(len(self))[index]
        if isinstance(places, range) and places.step == 1:
            return list(self.take(places.start, max(places.start, places.stop)).tolist())
        if isinstance(places, range):
            return [self[place] for place in places]
        return int(self.take(places, places + 1)[0])

    def take(self, start: int, stop: int) -> NDArray[np.int64]:
        """Compute the entries ``start`` to ``stop - 1`` together."""
        found = np.empty(stop - start, np.int64)
        left = len(self)
        # Where in the result the places are that remain, and the first one's number among them.
        where, first = np.arange(stop - start), start
        for number, share in enumerate(self._shares):
            if not len(where):
                break
            before = [(first + k) * share // left for k in range(len(where) + 1)]
            taken = np.diff(before).astype(bool)
            found[where[taken]] = self._rows(number, before[0], before[-1])
            where, first, left = where[~taken], first - before[0], left - share
        return found

    def _rows(self, number: int, start: int, stop: int) -> list[int]:
        """Return the rows that a dataset contributes at its turns ``start`` to ``stop - 1``."""
        length = len(self._parts[number])
        turn = self._epoch * self._shares[number] + start
        end = self._epoch * self._shares[number] + stop
        rows: list[int] = []
        while turn < end:
            epoch, place = divmod(turn, length)
            n = min(end - turn, length - place)
            rows += take(self._order_of(number, epoch), place, place + n)
            turn += n
        first = int(self._firsts[number])
        return [first + row for row in rows]

    def _order_of(self, number: int, epoch: int) -> Sequence[int]:
        key = (number, epoch)
        if key not in self._orders:
            self._orders = {k: order for k, order in self._orders.items() if k[0] != number}
            self._orders[key] = self._parts[number].order(self._seeds[number], epoch)
        return self._orders[key]


def _seed(seed: int, number: int) -> int:
    """Return the seed of a dataset's own order, which differs from those of the others."""
    label = f"tisslm mixed seed={seed} dataset={number}"
    return int.from_bytes(hashlib.sha256(label.encode()).digest()[:4], "little") >> 1

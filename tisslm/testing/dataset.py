"""Conformance checks of datasets: they must keep the contract ``tisslm.contracts.Dataset``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm.contracts import IGNORE_INDEX, Dataset, Rows
from tisslm.contracts.preference import PAIR
from tisslm.contracts.rows import IDS
from tisslm.errors import ConfigError
from tisslm.testing.checks import Checks, Report, keeps_final_methods, own_metrics_are_declared
from tisslm.testing.examples import option_sets
from tisslm.tokenizers.byte import ByteTokenizer

__all__ = ["check_dataset"]

Array = NDArray[Any]
Make = Callable[[], Dataset]
Batches = Sequence[Rows]

SEQ_LEN = 5
TEXT = "Ein Text mit Umlauten: äöü, und 中文.\n" * 3

#: The number of windows that are checked of a larger dataset.
MANY = 60


def check_dataset(
    cls: type[Dataset], *, options: Mapping[str, Any] | None = None, name: str = ""
) -> Report:
    """Check that a dataset class keeps its contract.

    Parameters
    ----------
    cls : type
    options : mapping, optional
        What it is built with. Left out: ``cls.test_options`` (which may be a static method that
        writes files into the folder it is given), or its defaults, with examples of ``tokens``,
        ``path`` (a text file), ``text``, ``tokenizer``, ``seq_len``, ``vocab_size``.
    name : str, optional
        Its name in messages.

    Returns
    -------
    Report

    Raises
    ------
    ConformanceError
        At the first assertion that fails.
    """
    checks = Checks(name or f"dataset {cls.__name__}", Dataset)
    checks.run(keeps_final_methods, cls)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "text.txt")
        path.write_text(TEXT, encoding="utf-8")
        examples = {
            "tokens": np.random.default_rng(0).integers(0, 50, 11 * SEQ_LEN + 3, dtype=np.uint16),
            "path": path,
            "text": TEXT,
            "tokenizer": ByteTokenizer(),
            "seq_len": SEQ_LEN,
            "vocab_size": 64,
        }
        for chosen in option_sets(cls, options, examples=examples, folder=Path(folder)):

            def make(chosen: Mapping[str, Any] = chosen) -> Dataset:
                return cls(**chosen)

            for prop in PROPERTIES:
                checks.run(prop, make, options=chosen)
    return checks.report()


def partial_batch_size(n_windows: int) -> int:
    """Return the least batch size from 2 on that leaves a partial last batch."""
    return next(size for size in range(2, n_windows + 2) if n_windows % size)


def has_windows_of_one_length(checks: Checks, make: Make) -> None:
    """Check that length, seq_len and vocab_size are positive integers."""
    dataset = make()
    sizes = {"len": len(dataset), "seq_len": dataset.seq_len, "vocab_size": dataset.vocab_size}
    for what, value in sizes.items():
        checks.that(int(value) == value and value >= 1, f"{what} >= 1", value)


def windows_are_rows_of_the_same_arrays(checks: Checks, make: Make) -> None:
    """Check that each window is ``Rows``, with the arrays of every other window."""
    dataset = make()
    names: set[str] = set()
    for i in range(min(len(dataset), MANY)):
        window = dataset.window(i)
        is_rows(checks, window, f"window {i}")
        names = names or set(window.arrays)
        checks.same(set(window.arrays), names, f"arrays of window {i}")
        clash = sorted(set(IDS) & set(window.others))
        checks.that(not clash, f"window {i}: others of names beside {', '.join(IDS)}", clash)


def is_rows(checks: Checks, found: object, what: str) -> None:
    """Assert that a dataset gave ``Rows``."""
    checks.that(isinstance(found, Rows), f"{what} as tisslm.contracts.Rows", type(found).__name__)


def targets_are_the_inputs_shifted_by_one(checks: Checks, make: Make) -> None:
    """Check that windows are int32 ids of shape (T,), and a target the next input, or -100.

    Windows of texts, which have ``lengths``, have the target 0 where each text ends; of a pair,
    which has ``pair``, each of the two texts is looked at, and has something to learn.
    """
    dataset, again = make(), make()
    for i in range(min(len(dataset), MANY)):
        window = dataset.window(i)
        x, y = window.x, window.y
        for name in (name for name in IDS if name in window.arrays):
            array = window.arrays[name]
            got = (array.shape, str(array.dtype))
            checks.same(got, ((dataset.seq_len,), "int32"), f"{name} of window {i}")
        for what, array in (("inputs", x), ("targets", y)):
            known = (array >= 0) & (array < dataset.vocab_size)
            known |= (array == IGNORE_INDEX) & (what == "targets")
            checks.that(bool(known.all()), f"{what} below {dataset.vocab_size}", array[~known][:1])
        if "lengths" in window.others:
            wanted = np.full_like(y, IGNORE_INDEX)
            wanted[np.cumsum(window.others["lengths"]) - 1] = 0
            checks.same(y.tolist(), wanted.tolist(), f"targets of window {i}, 0 where a text ends")
        elif PAIR in window.others:
            cut, end = np.cumsum(window.others[PAIR]).tolist()
            for begin, stop in ((0, cut), (cut, end)):
                real = y[begin : stop - 1] != IGNORE_INDEX
                shifted = np.array_equal(y[begin : stop - 1][real], x[begin + 1 : stop][real])
                checks.that(shifted, f"window {i}: targets {x[begin + 1 : stop]}", f"{y}")
                learned = bool((y[begin:stop] != IGNORE_INDEX).any())
                checks.that(learned, f"window {i}: a target in each text", f"{y}")
            checks.that(bool((y[end:] == IGNORE_INDEX).all()), "no target behind both", f"{y}")
        else:
            real = (y[:-1] != IGNORE_INDEX) & ~ends(window)[:-1]
            shifted = np.array_equal(y[:-1][real], x[1:][real])
            checks.that(shifted, f"window {i}: targets {x[1:]}", f"{y[:-1]}")
        same_rows(checks, again.window(i), window, f"of window {i} of another instance")


def starts(window: Rows) -> Array:
    """Return where in a window the document of each token begins: at 0, where nothing is said."""
    return np.zeros(len(window.x), np.int32) if window.start is None else window.start


def begins(window: Rows) -> Array:
    """Return where in a window a document begins, as booleans; 0 is always one."""
    return np.equal(starts(window), np.arange(len(window.x)))


def ends(window: Rows) -> Array:
    """Return where in a window a document has its last input: what follows it may be in none.

    These are the places before a border, and the last one that has a target: padding comes after.
    """
    last = np.append(begins(window)[1:], True)
    real = np.flatnonzero(window.y != IGNORE_INDEX)
    if real.size:
        last[real[-1]] = True
    return last


def documents_begin_where_the_starts_say(checks: Checks, make: Make) -> None:
    """Check that each start is the token's own place, or the start of the token before."""
    dataset = make()
    for i in range(min(len(dataset), MANY)):
        window = dataset.window(i)
        start_T = starts(window)
        before = np.concatenate(([0], start_T[:-1]))
        wrong = np.flatnonzero((start_T != before) & ~begins(window))
        place = int(wrong[0]) if wrong.size else 0
        checks.that(
            wrong.size == 0 and int(start_T[0]) == 0,
            f"window {i}: the start of token {place} as {before[place]} or {place}",
            int(start_T[place]),
        )


def no_token_is_predicted_from_another_document(checks: Checks, make: Make) -> None:
    """Check that not all targets before a border are the token after it."""
    dataset = make()
    targets: list[int] = []
    following: list[int] = []
    for i in range(min(len(dataset), MANY)):
        window = dataset.window(i)
        last = np.flatnonzero(begins(window)[1:])
        last = last[window.y[last] != IGNORE_INDEX]
        targets += window.y[last].tolist()
        following += window.x[last + 1].tolist()
    # equal by chance, or a mark at either end of each document, is no mistake
    crossed = len(targets) >= 3 and len(set(following)) > 1 and targets == following
    checks.that(
        not crossed,
        "-100 or its own document's next token as the target of a document's last input",
        f"the next document's first token at each of {len(targets)} borders",
    )


def order_is_a_permutation(checks: Checks, make: Make) -> None:
    """Check that every window comes once in an epoch, and that places can be looked up singly."""
    dataset = make()
    n = len(dataset)
    places = range(n) if n <= 20_000 else range(0, n, n // 5000)
    for seed, epoch in ((0, 0), (7, 1), (2**31, 12345)):
        order = dataset.order(seed, epoch)
        checks.same(len(order), n, "length of the order")
        found = [int(order[i]) for i in places]
        fits = len(set(found)) == len(found) and 0 <= min(found) <= max(found) < n
        checks.that(fits, f"each of range({n}) at most once", f"{found[:20]}")
        other = make().order(seed, epoch)
        backwards = [int(other[i]) for i in reversed(places)]
        checks.same(backwards[::-1], found, "the same order, asked for backwards")


def read(
    checks: Checks, dataset: Dataset, batch_size: int, seed: int, start: int, count: int
) -> Batches:
    """Return some batches, in arrays that stay."""
    return kept(checks, islice(dataset.batches(batch_size, seed, start), count))


def kept(checks: Checks, batches: Iterable[Rows]) -> Batches:
    """Return batches in arrays that stay."""
    found = []
    for number, batch in enumerate(batches):
        is_rows(checks, batch, f"batch {number}")
        found.append(batch.copy())
    return found


def same_batches(checks: Checks, got: Batches, expected: Batches, what: str) -> None:
    """Assert that two sequences of batches are equal."""
    checks.same(len(got), len(expected), f"{what}: number of batches")
    for i, (rows, right) in enumerate(zip(got, expected, strict=True)):
        same_rows(checks, rows, right, f"{what}: of batch {i}")


def same_rows(checks: Checks, got: Rows, expected: Rows, what: str) -> None:
    """Assert that two records have the same arrays."""
    checks.same(set(got.arrays), set(expected.arrays), f"arrays {what}")
    for name, array in expected.arrays.items():
        checks.same(got.arrays[name], array, f"{name} {what}")


def batches_follow_the_order_and_keep_the_last(checks: Checks, make: Make) -> None:
    """Check that batches have all windows in the order of the epoch, then of the next one."""
    dataset = make()
    n, seed = len(dataset), 3
    for size in (1, partial_batch_size(n)):
        per_epoch = -(-n // size)
        count = min(per_epoch + 2, MANY)
        expected = []
        for number in range(count):
            epoch, batch = divmod(number, per_epoch)
            order = dataset.order(seed, epoch)
            rows = range(batch * size, min((batch + 1) * size, n))
            expected.append(Rows.stack([dataset.window(int(order[row])) for row in rows]))
        same_batches(
            checks, read(checks, dataset, size, seed, 0, count), expected, f"batches of {size}"
        )


def any_batch_can_be_the_first(checks: Checks, make: Make) -> None:
    """Check that ``batches(start=k)`` begins with batch k, in this epoch or a later one."""
    dataset = make()
    n, seed = len(dataset), 5
    size = partial_batch_size(n)
    per_epoch = -(-n // size)
    whole = read(checks, dataset, size, seed, 0, min(2 * per_epoch, MANY) + 2)
    for start in sorted({1, per_epoch - 1, per_epoch, len(whole) - 2} & set(range(len(whole)))):
        found = read(checks, make(), size, seed, start, 2)
        same_batches(checks, found, whole[start : start + 2], f"from batch {start}")
    last = read(checks, dataset, size, seed, per_epoch - 1, 1)[0]
    checks.same(len(last.x), n % size, "rows of the last batch of an epoch")
    far = read(checks, dataset, size, seed, 1000 * per_epoch, 1)[0]
    first = dataset.window(int(dataset.order(seed, 1000)[0]))
    same_rows(checks, far.row(0), first, "of the first window of epoch 1000")


def the_same_seed_gives_the_same_batches(checks: Checks, make: Make) -> None:
    """Check that another instance, and one that was read before, give the same batches."""
    dataset = make()
    size = partial_batch_size(len(dataset))
    first = read(checks, dataset, size, 11, 0, 3)
    read(checks, dataset, size, 12, 0, 2)
    same_batches(checks, read(checks, dataset, size, 11, 0, 3), first, "read again")
    same_batches(checks, read(checks, make(), size, 11, 0, 3), first, "another instance")


def a_streamed_batch_is_good_until_the_next_but_one(checks: Checks, make: Make) -> None:
    """Check that ``stream`` yields the batches, and does not change one while the next is made."""
    size = partial_batch_size(len(make()))
    expected = read(checks, make(), size, 7, 1, 5)
    stream = make().stream(size, 7, 1)
    held = next(stream)
    is_rows(checks, held, "a batch of the stream")
    for number, batch in enumerate(expected):
        following = next(stream)  # what training asks for while it uses the one before
        same_batches(checks, [held], [batch], f"batch {number} of the stream")
        held = following


def iterating_gives_an_epoch_then_the_next(checks: Checks, make: Make) -> None:
    """Check that ``for x, y in dataset`` uses batch_size and seed, and continues where it ended."""
    dataset = make()
    dataset.batch_size, dataset.seed = partial_batch_size(len(dataset)), 9
    per_epoch = -(-len(dataset) // dataset.batch_size)
    count = min(per_epoch, MANY)
    for epoch in range(2):
        found = kept(checks, islice(iter(dataset), count))
        expected = read(checks, make(), dataset.batch_size, 9, epoch * per_epoch, count)
        same_batches(checks, found, expected, f"epoch {epoch}")
    checks.raises(ConfigError, lambda: next(dataset.batches(0, 1)), "batch_size 0")


PROPERTIES: tuple[Callable[[Checks, Make], None], ...] = (
    has_windows_of_one_length,
    windows_are_rows_of_the_same_arrays,
    targets_are_the_inputs_shifted_by_one,
    documents_begin_where_the_starts_say,
    no_token_is_predicted_from_another_document,
    order_is_a_permutation,
    batches_follow_the_order_and_keep_the_last,
    any_batch_can_be_the_first,
    the_same_seed_gives_the_same_batches,
    a_streamed_batch_is_good_until_the_next_but_one,
    iterating_gives_an_epoch_then_the_next,
    own_metrics_are_declared,
)

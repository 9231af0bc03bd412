"""Properties of losses of vectors, of the contract ``tisslm.contracts.EmbeddingLoss``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisslm import ops
from tisslm.contracts import EmbeddingLoss, PooledBatch, PooledValue
from tisslm.errors import TissLMError
from tisslm.testing.checks import Checks, own_metrics_are_declared
from tisslm.testing.differences import FLOAT64, Tally, compare_with_differences
from tisslm.testing.examples import normal

__all__ = ["EMBEDDING_PROPERTIES", "example"]

Array = NDArray[Any]
Make = Callable[[], EmbeddingLoss]

DTYPES = ("float32", "float64")

#: Two orders of the same sums in float64, through exponentials of numbers of size 20.
ROUNDING = 1e-10

#: float32 against float64: products over a vector, exponentials of 20 times these.
BOTH_TYPES = 1e-4

#: Numbers of threads that a loss must have the same bits for.
THREADS = (1, 2, 3)


def example(
    loss: EmbeddingLoss, dtype: str = "float64", *, n_texts: int = 0, n: int = 5, size: int = 6
) -> PooledBatch:
    """Return vectors of different lengths, of texts that all differ.

    Parameters
    ----------
    loss : EmbeddingLoss
    dtype : str
    n_texts : int
        Of an example; the fewest that the loss takes if 0.
    n, size : int
        Examples, and numbers of a vector.
    """
    k = n_texts or loss.n_texts[0]
    rng = np.random.default_rng(k * n * size)
    return PooledBatch(
        normal(rng, (k, n, size)).astype(dtype),
        rng.permutation(k * n).reshape(k, n).astype(np.int64),
        rng.random(n, dtype=np.float32).astype(dtype),
        2.0 if loss.learns_scale else None,
    )


def examples(loss: EmbeddingLoss, dtype: str = "float64") -> Iterator[PooledBatch]:
    """Yield an example of as few texts as the loss takes, and one with a text more if it may."""
    least = loss.n_texts[0]
    for k in (least, least + 1):
        if k in loss.n_texts:
            yield example(loss, dtype, n_texts=k)


def gradient_of(checks: Checks, value: PooledValue, pooled: PooledBatch) -> Array:
    """Return the gradient, which must be an array like the vectors."""
    found, like = value.d_embeddings_KNE, pooled.embeddings_KNE
    if found is None:
        checks.fail("a gradient", "None")
    checks.same((found.shape, str(found.dtype)), (like.shape, str(like.dtype)), "gradient")
    return found


def says_what_it_needs(checks: Checks, make: Make) -> None:
    """Check the attributes that a run asks before it begins."""
    loss = make()
    said = (loss.needs_score, loss.needs_others, loss.learns_scale)
    what = "needs_score, needs_others and learns_scale True or False"
    checks.that(all(isinstance(each, bool) for each in said), what, said)
    right = isinstance(loss.n_texts, range) and len(loss.n_texts) > 0 and loss.n_texts[0] >= 2
    checks.that(right, "n_texts as a range of numbers >= 2", repr(loss.n_texts))


def value_is_a_number_and_a_gradient(checks: Checks, make: Make) -> None:
    """Check for finite values of the vectors' type, and that nothing given is changed."""
    for dtype in DTYPES:
        loss = make()
        for pooled in examples(loss, dtype):
            arrays = (pooled.embeddings_KNE, pooled.text_ids_KN, pooled.score_N)
            kept = [np.array(each) for each in arrays]
            value = loss.value(pooled)
            checks.finite(value.loss, "loss")
            gradient = gradient_of(checks, value, pooled)
            checks.finite(gradient, "gradient")
            checks.that(bool(gradient.any()), "a gradient that is not all zero", "zeros")
            for name, before, after in zip(("vectors", "ids", "scores"), kept, arrays, strict=True):
                checks.same(after, before, f"{name} after value")


def the_gradient_is_that_of_central_differences(checks: Checks, make: Make) -> None:
    """Check every element of the gradient in float64, and that by the scale, to 1e-6."""
    loss = make()
    for pooled in examples(loss):
        value = loss.value(pooled)
        log_scale = np.array([0.0 if pooled.log_scale is None else pooled.log_scale])

        def objective(pooled: PooledBatch = pooled, log_scale: Array = log_scale) -> float:
            if pooled.log_scale is not None:
                pooled = replace(pooled, log_scale=float(log_scale[0]))
            return float(loss.value(pooled, gradient=False).loss)

        x, tally = pooled.embeddings_KNE, Tally()
        gradient = gradient_of(checks, value, pooled)
        compare_with_differences(tally, "vectors", objective, x, gradient, limit=x.size)
        if loss.learns_scale:
            found = np.array([value.d_log_scale])
            compare_with_differences(tally, "log_scale", objective, log_scale, found)
        checks.n_assertions += tally.n_checked
        checks.that(tally.error < FLOAT64, f"an error below {FLOAT64:g}", tally.worst)


def only_a_learned_scale_has_a_gradient(checks: Checks, make: Make) -> None:
    """Check that ``d_log_scale`` is 0.0 without it, and that it is asked for with it."""
    loss = make()
    pooled = example(loss)
    if loss.learns_scale:
        without = replace(pooled, log_scale=None)
        checks.raises(TissLMError, lambda: loss.value(without), "value without a scale")
    else:
        checks.same(loss.value(pooled).d_log_scale, 0.0, "d_log_scale")
        given = loss.value(replace(pooled, log_scale=2.0))
        checks.same(given.d_log_scale, 0.0, "d_log_scale of a scale that it does not learn")


def scores_are_asked_for_where_they_are_needed(checks: Checks, make: Make) -> None:
    """Check that a loss with ``needs_score`` refuses texts without, and another does not."""
    loss = make()
    without = replace(example(loss), score_N=None)
    if loss.needs_score:
        checks.raises(TissLMError, lambda: loss.value(without), "value without scores")
    else:
        checks.finite(loss.value(without).loss, "loss without scores")


def one_example_alone_is_taken_or_refused(checks: Checks, make: Make) -> None:
    """Check that one of few texts is refused by a loss with ``needs_others``, and by no other."""
    loss = make()
    alone = example(loss, n=1)
    if loss.needs_others:
        checks.raises(TissLMError, lambda: loss.value(alone), "value of one example")
    else:
        checks.finite(loss.value(alone).loss, "loss of one example")


def without_gradient_the_loss_is_the_same(checks: Checks, make: Make) -> None:
    """Check that ``gradient=False`` gives the same loss to the bit, and no gradient."""
    for dtype in DTYPES:
        loss = make()
        for pooled in examples(loss, dtype):
            value = loss.value(pooled, gradient=False)
            checks.same(value.loss, loss.value(pooled).loss, "loss with gradient=False")
            checks.that(value.d_embeddings_KNE is None, "no gradient", "one")


def the_order_of_the_examples_does_not_matter(checks: Checks, make: Make) -> None:
    """Check that examples in another order have the same loss, and gradients in that order."""
    loss = make()
    order = np.array([3, 0, 4, 1, 2])
    for pooled in examples(loss):
        shuffled = PooledBatch(
            pooled.embeddings_KNE[:, order].copy(),
            pooled.text_ids_KN[:, order].copy(),
            None if pooled.score_N is None else pooled.score_N[order],
            pooled.log_scale,
        )
        one, two = loss.value(pooled), loss.value(shuffled)
        checks.close(two.loss, one.loss, "loss in another order", ROUNDING)
        expected = gradient_of(checks, one, pooled)[:, order]
        checks.close(gradient_of(checks, two, shuffled), expected, "gradient", ROUNDING)


def any_vectors_give_finite_numbers(checks: Checks, make: Make) -> None:
    """Check vectors that are zero, all the same or long, and texts that are all the same."""
    for dtype in DTYPES:
        loss = make()
        for pooled in examples(loss, dtype):
            x = pooled.embeddings_KNE
            with_zeros = x.copy()
            with_zeros[:, 1], with_zeros[0, 2] = 0, 0
            cases = {
                "of which some are zero": replace(pooled, embeddings_KNE=with_zeros),
                "that are all zero": replace(pooled, embeddings_KNE=np.zeros_like(x)),
                "that are all the same": replace(pooled, embeddings_KNE=np.ones_like(x)),
                "of length 1e3": replace(pooled, embeddings_KNE=x * x.dtype.type(1e3)),
                "of one text": replace(pooled, text_ids_KN=np.zeros_like(pooled.text_ids_KN)),
            }
            for what, given in cases.items():
                value = loss.value(given)
                checks.finite(value.loss, f"loss of vectors {what} ({dtype})")
                gradient = gradient_of(checks, value, given)
                checks.finite(gradient, f"gradient of vectors {what} ({dtype})")


def the_same_vectors_give_the_same_bits(checks: Checks, make: Make) -> None:
    """Check that a value depends on no earlier one, and not on the number of threads."""
    loss = make()
    pooled = example(loss, "float32", n=131, size=48)
    first = loss.value(pooled)
    threads = ops.thread_count()
    try:
        for count in THREADS:
            ops.set_threads(count)
            loss.value(example(loss, "float32", n=3))
            again = loss.value(pooled)
            checks.same(again.loss, first.loss, f"loss on {count} threads")
            checks.same(again.d_log_scale, first.d_log_scale, f"d_log_scale on {count} threads")
            expected = gradient_of(checks, first, pooled)
            found = gradient_of(checks, again, pooled)
            checks.same(found, expected, f"gradient on {count} threads")
    finally:
        ops.set_threads(threads.count)


def float32_and_float64_agree(checks: Checks, make: Make) -> None:
    """Check that loss and gradient are the same numbers in both types."""
    for n, size in ((5, 6), (97, 40)):
        loss = make()
        exact, rounded = (example(loss, dtype, n=n, size=size) for dtype in ("float64", "float32"))
        one, two = loss.value(exact), loss.value(rounded)
        checks.close(two.loss, one.loss, "loss in float32", BOTH_TYPES)
        checks.close(two.d_log_scale, one.d_log_scale, "d_log_scale in float32", BOTH_TYPES)
        expected = gradient_of(checks, one, exact)
        checks.close(gradient_of(checks, two, rounded), expected, "gradient", BOTH_TYPES)


EMBEDDING_PROPERTIES: tuple[Callable[[Checks, Make], None], ...] = (
    says_what_it_needs,
    value_is_a_number_and_a_gradient,
    the_gradient_is_that_of_central_differences,
    only_a_learned_scale_has_a_gradient,
    scores_are_asked_for_where_they_are_needed,
    one_example_alone_is_taken_or_refused,
    without_gradient_the_loss_is_the_same,
    the_order_of_the_examples_does_not_matter,
    any_vectors_give_finite_numbers,
    the_same_vectors_give_the_same_bits,
    float32_and_float64_agree,
    own_metrics_are_declared,
)

"""Tolerances of the tests, each with its reason. All are relative; none is absolute.

Unless said otherwise an error is the largest absolute difference divided by the largest absolute
value of the expected array (``largest_error``), because a sum that cancels to nearly zero keeps
the absolute error of its terms.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Distance from 1 to the next float32.
EPS32 = 2.0**-23

#: Twin's backward against four-point central differences in float64. With step h = 1e-3 the
#: formula is off by h^4/30 of a fifth derivative (1e-13 here), rounding by about 1e-16/h = 1e-13;
#: 1e-6 is what the design promises, and far below any wrong sign, factor or index.
GRADIENT_CHECK = 1e-6

#: Two ways to compute the same thing in float64: a few roundings of 1e-16 each.
FLOAT64_ROUNDING = 1e-12

#: A float32 activation against float64, relative to |x|: one exp, tanh or erf of a few units in
#: the last place, or a polynomial for it, and some products.
ACTIVATION = 8 * EPS32

#: The activation's slope, relative to |dy|. In the tanh form a gate near 1 is subtracted from 1
#: and the rest, EPS32/2 off, multiplied by the slope of the cubic and by x: 35 where it matters
#: most, at x = 5.
ACTIVATION_SLOPE = 32 * EPS32

#: The left tail of value and slope relative to itself, down to x = -8: the argument of an
#: exponential is rounded, and at 49, which the tanh form reaches, that alone is 3e-6; or it is a
#: table, whose polynomials are off by 6e-6 where they are steepest.
ACTIVATION_TAIL = 1e-5

#: One or two float32 operations per element, such as x * mask * scale.
FEW_ROUNDINGS = 2 * EPS32

#: Layer norm in float32, relative to rstd * max|x - mean| * max|gamma|: two sums over a row, each
#: in vector lanes, and five products. The RMS norm has one sum and no mean: max|x| instead.
LAYER_NORM = 8 * EPS32

#: Layer norm of rows whose mean is a thousand standard deviations: the mean is off by a unit in
#: the last place of 1000, 6e-5, and so is every element. Subtracting mean(x)^2 from mean(x^2)
#: would be off by 1e6 * EPS32 = 0.1.
LAYER_NORM_OFFSET = 1e-4

#: Attention's output in float32: scores of size 5 carry 5 EPS32 into exp, and so do the weights.
ATTENTION_FORWARD = 16 * EPS32

#: Attention's gradients: the weights' error, and the difference dP - rowsum(dP P), whose terms
#: are larger than itself.
ATTENTION_BACKWARD = 32 * EPS32


def dot_product(length: int) -> float:
    """Tolerance of a float32 sum of ``length`` products against float64.

    Roundings are independent, so they grow by the square root of their number; the largest of
    many sums of random products grows likewise, which leaves a factor of three for what is seen.
    """
    return (4 + math.sqrt(length)) * EPS32


def largest_error(actual: NDArray[Any], expected: NDArray[Any], scale: float = 0.0) -> float:
    """Return max|actual - expected| / max(max|expected|, scale); NaN where a value is NaN.

    Parameters
    ----------
    actual, expected : ndarray
        Of the same shape.
    scale : float
        Size of the terms that the values are sums of, where these may cancel to zero.
    """
    assert actual.shape == expected.shape
    difference = np.abs(actual.astype(np.float64) - expected)
    size = max(float(np.abs(expected).max()), scale)
    if size == 0:
        return 0.0 if not difference.any() else math.inf
    return float(difference.max()) / size


#: A gradient of a whole small model in float32, relative to its largest element: two blocks are
#: about thirty kernels in a row, each with a few roundings of sums of at most a hundred terms.
WHOLE_MODEL = 2e-5

#: Rounding to the nearest number of a storage type: half of its spacing, relative, and as much
#: again where the kernel's value and the twin's fall on two sides of a boundary.
STORED_EPS = {"uint16": 2.0**-8, "float16": 2.0**-11}

#: A gradient of a whole small model in mixed precision, relative to its largest element: an
#: activation is rounded after each of about thirty kernels, and so are its gradient and, in bf16,
#: weights. Errors are independent and sums average them, so a handful of roundings is left: four
#: are seen at the worst of several models and instruction-set levels.
MIXED_GRADIENT = {"bf16": 6 * 2.0**-8, "fp16": 6 * 2.0**-11}

#: A mean loss in mixed precision, relative: roundings of the logits' inputs, averaged over the
#: targets. An eighth of one rounding is seen.
MIXED_LOSS = {"bf16": 2.0**-9, "fp16": 2.0**-12}

#: The loss at the end of a short training in mixed precision against fp32's, in nats. Rounding
#: acts as noise on the gradients, which training averages: at a loss of 0.09, four seeds of the
#: first values are up to 0.02 apart, and the precisions of one seed up to 0.002.
MIXED_TRAINING = 0.005

#: Planned against measured memory of a run: the interpreter's own objects, the stacks of threads
#: and what libraries do at first use take 2 to 3 MB that no plan knows, of about 120 MB.
PLANNED_MEMORY = 0.05

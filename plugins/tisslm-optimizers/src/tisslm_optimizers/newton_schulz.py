"""The orthogonal matrix nearest to another, about: five steps of an iteration of products alone."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from tisslm import ops
from tisslm_optimizers.arrays import Kinds, zeros
from tisslm_optimizers.reference import muon as reference

__all__ = ["NewtonSchulz", "muon_apply", "muon_direction"]

Array = NDArray[Any]
_MODULE = "tisslm_optimizers._kernels.muon"

muon_direction = ops.register(
    reference.muon_direction, f"{_MODULE}:muon_direction", part="optimizer"
)
muon_apply = ops.register(reference.muon_apply, f"{_MODULE}:muon_apply", part="optimizer")
muon_mix = ops.register(reference.muon_mix, f"{_MODULE}:muon_mix", part="optimizer")
muon_transpose = ops.register(
    reference.muon_transpose, f"{_MODULE}:muon_transpose", part="optimizer"
)

#: ``a x + b x^3 + c x^5`` takes singular values from (0, 1] to about 0.7 to 1.2 in five steps.
COEFFICIENTS = (3.4445, -4.775, 2.0315)


class NewtonSchulz:
    """Turns the singular values of matrices to about 1, and leaves their vectors.

    ``X = U / max(|U|, eps)``; then ``steps`` times ``A = X X^T``, ``B = b A + c A A``,
    ``X = a X + B X``. A matrix with more rows than columns is transposed before and after.

    Parameters
    ----------
    shapes : sequence of (int, int)
        Of the matrices that will come.
    dtype : dtype
    steps : int
    eps : float

    References
    ----------
    Jordan and others, "Muon: An optimizer for hidden layers in neural networks",
    kellerjordan.github.io/posts/muon, 2024.
    """

    def __init__(self, shapes: list[tuple[int, int]], dtype: Any, steps: int, eps: float) -> None:
        self.steps, self.eps = steps, eps
        arrays = zeros(self.planned(shapes, dtype))
        self._x_P, self._y_P, self._a_P, self._b_P = arrays.values()
        self._parts_K = ops.norm_parts(self._x_P)

    @staticmethod
    def planned(shapes: list[tuple[int, int]], dtype: Any) -> Kinds:
        """Return what it keeps: two of the largest matrix, two of the largest square."""
        large = max((m * n for m, n in shapes), default=0)
        square = max((min(shape) ** 2 for shape in shapes), default=0)
        sizes = {"x": large, "y": large, "a": square, "b": square}
        return {f"orthogonalized {name}": ((size,), dtype) for name, size in sizes.items()}

    def room(self, size: int) -> Array:
        """Return the flat array that a matrix of so many elements is to be written to."""
        return self._x_P[:size]

    def __call__(self, rows: int, columns: int) -> Array:
        """Return what becomes of the matrix in ``room``, flat; it is good until the next call."""
        size, small = rows * columns, min(rows, columns)
        x_P, y_P = self._x_P[:size], self._y_P[:size]
        if rows > columns:
            muon_transpose(x_P.reshape(rows, columns), y_P.reshape(columns, rows))
            x_P, y_P = y_P, x_P
        norm = ops.global_norm(x_P, self._parts_K[: len(ops.norm_parts(x_P))])
        ops.scale(x_P, 1.0 / max(norm, self.eps))
        a_P, b_P = self._a_P[: small * small], self._b_P[: small * small]
        a_MM, b_MM = a_P.reshape(small, small), b_P.reshape(small, small)
        a, b, c = COEFFICIENTS
        for _ in range(self.steps):
            x_MN, y_MN = x_P.reshape(small, -1), y_P.reshape(small, -1)
            ops.linear_forward(x_MN, x_MN, None, a_MM)
            ops.linear_forward(a_MM, a_MM, None, b_MM)  # it is symmetric: its square
            muon_mix(a_P, b_P, b, c)
            ops.matmul(b_MM, x_MN, y_MN)
            muon_mix(x_P, y_P, a, 1.0)
            x_P, y_P = y_P, x_P
        if rows > columns:
            muon_transpose(x_P.reshape(columns, rows), y_P.reshape(rows, columns))
            return y_P
        return x_P

"""GradientNorms: the norm of each gradient, named by parameter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tisslm.tracking.monitors.gradient_norms import GradientNorms

#: Squares are added in float64 (1e-16 each, at most some thousand terms).
FLOAT64_SUM = 1e-12


@settings(deadline=None)  # the machine may be busy
@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64]),
        hnp.array_shapes(max_dims=3, max_side=40),
        elements=st.integers(-1000, 1000),
        fill=st.just(3),
    )
)
def test_the_norm_is_that_of_all_elements_in_double_precision(gradient: np.ndarray) -> None:
    gradient.setflags(write=False)
    monitor = GradientNorms()
    monitor.observe("wte", gradient)
    expected = np.sqrt(np.square(gradient.astype(np.float64)).sum())
    assert monitor.metrics() == {"grad_norm/wte": pytest.approx(expected, rel=FLOAT64_SUM, abs=0)}


def test_a_strided_view_is_measured_as_it_is() -> None:
    monitor = GradientNorms()
    monitor.observe("w", np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2])
    expected = np.sqrt(float(np.square([0, 2, 4, 6, 8, 10]).sum()))
    assert monitor.metrics()["grad_norm/w"] == pytest.approx(expected, rel=FLOAT64_SUM)


def test_metrics_are_of_the_observations_since_the_last_call() -> None:
    monitor = GradientNorms()
    monitor.observe("a", np.array([3.0, 4.0]))
    monitor.observe("b", np.array([1.0]))
    monitor.observe("b", np.array([2.0]))
    assert dict(monitor.metrics()) == {"grad_norm/a": 5.0, "grad_norm/b": 2.0}
    assert dict(monitor.metrics()) == {}


def test_a_norm_that_is_not_finite_is_told() -> None:
    monitor = GradientNorms()
    monitor.observe("a", np.array([1.0, np.inf], dtype=np.float32))
    monitor.observe("b", np.array([1.0, np.nan], dtype=np.float32))
    norms = monitor.metrics()
    assert norms["grad_norm/a"] == np.inf
    assert np.isnan(norms["grad_norm/b"])  # type: ignore[call-overload]


def test_it_wants_gradients_only() -> None:
    assert GradientNorms.wants == {"gradients"}

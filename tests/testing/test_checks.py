"""The counting of assertions, and what a failure says."""

from __future__ import annotations

import numpy as np
import pytest

from tisslm.contracts import Loss
from tisslm.errors import PluginError
from tisslm.testing import ConformanceError, Report
from tisslm.testing.checks import Checks, keeps_final_methods


@pytest.fixture
def checks():
    return Checks("loss 'mine' (mine 1.0)", Loss)


def test_a_failure_names_part_options_property_expected_got_and_contract(checks):
    def gradients_are_right(checks, value):
        checks.same(value, 2.0, "the slope")

    with pytest.raises(ConformanceError) as caught:
        checks.run(gradients_are_right, 3.0, options={"gamma": 2.0})
    assert str(caught.value) == (
        "loss 'mine' (mine 1.0) with gamma=2: gradients are right: expected the slope 2, got 3. "
        "See tisslm.contracts.Loss"
    )


def test_a_failure_is_a_plugin_error_and_a_failed_assertion():
    assert issubclass(ConformanceError, PluginError)
    assert issubclass(ConformanceError, AssertionError)


def test_assertions_are_counted(checks):
    checks.that(True, "", "")
    checks.same(np.arange(3), np.arange(3), "ids")
    checks.close([1.0, 1e-9], [1.0, 0.0], "losses", 1e-6)
    checks.finite([1.0], "losses")
    checks.raises(ValueError, lambda: int("x"), "a letter")
    assert checks.report() == Report("loss 'mine' (mine 1.0)", 7)
    assert str(checks.report()) == "loss 'mine' (mine 1.0): 7 assertions"


def test_no_assertion_is_a_failure(checks):
    with pytest.raises(ConformanceError, match="at least one assertion, got none"):
        checks.report()


def test_a_property_that_asserts_nothing_is_a_failure(checks):
    checks.that(True, "", "")
    with pytest.raises(ConformanceError, match="idle: expected at least one assertion"):
        checks.run(idle)


def idle(checks):
    """Assert nothing."""


def test_what_the_part_raises_is_a_failure_with_its_cause(checks):
    def rows_are_kept(checks):
        raise KeyError("rows")

    with pytest.raises(
        ConformanceError, match="rows are kept: expected no exception, got KeyError: 'rows'"
    ) as caught:
        checks.run(rows_are_kept)
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda c: c.same(np.float32([1, 5]), np.float32([1, 2]), "x"),
            r"expected x\[1\] 2, got 5",
        ),
        (
            lambda c: c.same(np.float32([1]), np.float64([1]), "x"),
            r"expected x of shape \(1,\) float64, got \(1,\) float32",
        ),
        (lambda c: c.same(np.array([0.0]), np.array([-0.0]), "x"), "sign of zero"),
        (lambda c: c.same([1, 2], [1], "ids"), r"expected ids \[1\], got \[1, 2\]"),
        (lambda c: c.close([[1.0, 2.0]], [[1.0, 2.1]], "y", 1e-3), r"y\[0, 1\] 2.1, got 2"),
        (lambda c: c.close([np.nan], [1.0], "y", 1e-3), r"y\[0\] 1, got nan"),
        (lambda c: c.close([1.0], [1.0, 2.0], "y", 1e-3), r"y: shape \(2,\), got \(1,\)"),
        (lambda c: c.finite([1.0, np.inf], "z"), r"expected finite z, got \[inf\] among 2 values"),
        (
            lambda c: c.raises(ValueError, lambda: 1, "a one"),
            "expected ValueError for a one, got no exception",
        ),
        (
            lambda c: c.raises(ValueError, lambda: [][0], "none"),
            "expected ValueError for none, got IndexError: list index out of range",
        ),
    ],
)
def test_what_a_failed_assertion_says(checks, call, message):
    with pytest.raises(ConformanceError, match=message):
        call(checks)


def test_final_methods_must_be_those_of_the_contract(checks):
    class Mine(Loss):
        def forward(self, logits, targets):
            return 0.0

    checks.run(keeps_final_methods, Loss)
    with pytest.raises(ConformanceError, match="expected forward as the contract has it"):
        checks.run(keeps_final_methods, Mine)
    with pytest.raises(ConformanceError, match=r"expected a subclass of tisslm\.contracts\.Loss"):
        checks.run(keeps_final_methods, dict)

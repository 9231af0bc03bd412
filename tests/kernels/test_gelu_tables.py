"""The tables of GELU give the functions that they stand for, and are their script's.

Two libraries of linear algebra agree on a polynomial, but not on the last places of a coefficient
that is small beside the others. So what is compared is the function.
"""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, ndtr
from tolerances import EPS32

SCRIPT = runpy.run_path(
    str(Path(__file__).parents[2] / "tisslm" / "_kernels" / "c" / "gelu_tables.py")
)
COMMITTED = SCRIPT["TARGET"].read_text()
NUMBER = re.compile(r"-?\d\.\d{8}e[+-]\d\d")

#: What the script's degrees are chosen for: errors relative to the tails of value and slope.
TAIL, SLOPE_TAIL = 2e-6, 6e-6

FORMS = pytest.mark.parametrize("form", ["exact", "tanh"])


def committed(form):
    """The table that the kernel is built with: float32, a row a power, a column a piece."""
    shape = SCRIPT["DEGREES"][form] + 1, SCRIPT["PIECES"]
    body = COMMITTED.split(f"gelu_{form}_table")[1].split("};")[0]
    return np.array(NUMBER.findall(body), np.float32).reshape(shape)


def tails(table, a):
    """h(-a), and h(-a) - a h'(-a), as ``gelu.inc`` takes them from a table, in float64."""
    per_unit = SCRIPT["PER_UNIT"]
    piece = np.rint(a * per_unit).astype(int)
    t = a * per_unit - piece
    q, dq = np.zeros_like(a), np.zeros_like(a)
    for row in table[::-1].astype(np.float64):
        dq = dq * t + q
        q = q * t + row[piece]
    return q**4, q**3 * (q + 4 * a * per_unit * dq)


def true_tails(form, a):
    """The same from the definitions: h is Phi, or the sigmoid of twice the tanh's argument."""
    if form == "exact":
        gate, density = ndtr(-a), np.exp(-0.5 * a * a) / np.sqrt(2 * np.pi)
    else:
        twice_u = 2 * np.sqrt(2 / np.pi) * (a + 0.044715 * a**3)
        gate = expit(-twice_u)
        density = gate * expit(twice_u) * 2 * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * a * a)
    return gate, gate - a * density


@FORMS
@pytest.mark.parametrize("origin", ["committed", "made here"])
def test_tables_give_the_functions(form, origin):
    a = np.linspace(0, SCRIPT["REACH"], 200_001)[:-1]
    tail, slope = tails(committed(form) if origin == "committed" else SCRIPT["table"](form), a)
    true_tail, true_slope = true_tails(form, a)
    assert np.abs(tail / true_tail - 1).max() <= TAIL
    far = a >= 2  # the slope is zero at 0.75
    assert np.abs(slope / true_slope - 1)[far].max() <= SLOPE_TAIL
    assert np.abs(slope - true_slope).max() <= EPS32  # a unit of the slope on the other side


@FORMS
def test_tables_are_their_scripts(form):
    ours, theirs = (table.astype(np.float64) for table in (committed(form), SCRIPT["table"](form)))
    powers = 0.5 ** np.arange(len(ours))[:, None]  # |t| is at most 1/2
    apart = (np.abs(ours - theirs) * powers).sum(axis=0)
    # each coefficient was rounded to float32 twice, and is off by half a unit at most
    assert (apart <= EPS32 * (np.abs(theirs) * powers).sum(axis=0)).all()


def test_the_script_writes_this_form():
    assert NUMBER.sub("#", SCRIPT["text"]()) == NUMBER.sub("#", COMMITTED)

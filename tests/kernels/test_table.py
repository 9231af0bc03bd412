"""The table of the levels' functions is written once, in tiss.h: Cython's view is made of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tisslm
from tisslm.ops.building import cython_view

HEADER = Path(tisslm.__file__).parent / "_kernels" / "c" / "tiss.h"

TEXT = """\
#ifndef TISS_H
#define TISS_H
#define TISS_MOST (INT32_MAX - 4095)
#define TISS_F16 2 /* a type */

/* Numbers of a call. */
typedef struct {
    int m, n;            /* rows; columns */
    const float *a; int64_t a_row;
} tiss_call;

#define TISS_ROW_FUNCTIONS(F, T)                              \\
    F(T, void, norm, (const void *x, float *mean,             \\
                      int C)) /* a row */

#define TISS_FUNCTIONS(F)                                     \\
    F(float, sum, (const float *x, int64_t n))                \\
    F(double, square, (const float *x))

typedef struct {
    TISS_ROW_FUNCTIONS(TISS_ROW_MEMBER, void)
} tiss_rows;

typedef struct {
    const char *name;
    tiss_rows of[3];
    TISS_FUNCTIONS(TISS_MEMBER)
    double (*flops)(int64_t repeats);
} tiss_table;
"""

VIEW = """\
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

cdef extern from "c/tiss.h":
    enum:
        TISS_MOST
        TISS_F16

    ctypedef struct tiss_call:
        int m, n
        const float *a
        int64_t a_row

    ctypedef struct tiss_rows:
        void (*norm)(const void *x, float *mean, int C) noexcept nogil

    ctypedef struct tiss_table:
        const char *name
        tiss_rows of[3]
        float (*sum)(const float *x, int64_t n) noexcept nogil
        double (*square)(const float *x) noexcept nogil
        double (*flops)(int64_t repeats) noexcept nogil
"""


def test_a_view_has_every_struct_constant_and_function():
    assert cython_view(TEXT) == VIEW


@pytest.mark.skipif(not HEADER.exists(), reason="an installed package has no sources")
def test_no_function_of_the_lists_is_left_out():
    text = HEADER.read_text()
    view = cython_view(text)
    written = re.findall(r"^    F\((?:T, )?\w+, (\w+),", text, flags=re.MULTILINE)
    assert len(written) == text.count("    F(") > 20
    seen = re.findall(r"\(\*(\w+)\)\(.*\) noexcept nogil$", view, flags=re.MULTILINE)
    assert seen == [*written, "dot_flops"]  # which is NULL at most levels, so no entry of the lists

"""The table of the levels' functions is written once, in tiss.h; isa.pxd is a view of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tisslm

KERNELS = Path(tisslm.__file__).parent / "_kernels"
HEADER, VIEW = KERNELS / "c" / "tiss.h", KERNELS / "isa.pxd"

WRITTEN = re.compile(r"F\((?:T, )?(\w+), (\w+), \(([^()]*)\)\)")
SEEN = re.compile(r"(\w+) \(\*(\w+)\)\(([^()]*)\) noexcept nogil")


def listed(text: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return result and types of arguments by function, of the lists of tiss.h."""
    text = re.sub(r"/\*.*?\*/", "", text.replace("\\\n", " "), flags=re.DOTALL)
    return {
        name: (result, tuple(type_of(argument, named=True) for argument in arguments.split(",")))
        for result, name, arguments in WRITTEN.findall(text)
    }


def viewed(text: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {
        name: (result, tuple(type_of(argument, named=False) for argument in arguments.split(",")))
        for result, name, arguments in SEEN.findall(text)
    }


def type_of(argument: str, *, named: bool) -> str:
    words = argument.replace("*", " * ").split()
    return " ".join(words[:-1] if named else words)


@pytest.mark.skipif(not HEADER.exists(), reason="an installed package has no sources")
def test_the_view_of_cython_has_the_functions_and_types_of_the_list():
    ours, seen = listed(HEADER.read_text()), viewed(VIEW.read_text())
    dot = seen.pop("dot_flops")  # NULL at most levels, so it is no entry of the list
    assert dot == seen["fma_flops"]
    assert len(ours) == 28
    assert seen == ours


def test_a_function_that_differs_is_found():
    text = "F(void, add, (float *x, const float *y, int64_t n)) \\\n F(T, float, top, (int n))"
    assert listed(text) == {
        "add": ("void", ("float *", "const float *", "int64_t")),
        "top": ("float", ("int",)),
    }
    assert viewed("void (*add)(float *, const float *,\n   int) noexcept nogil")["add"] == (
        "void",
        ("float *", "const float *", "int"),
    )

"""The instruction-set level in use: chosen once at import, forced by ``TISSLM_ISA``.

The only module that links the C sources; the others reach their functions through ``table``.
"""

import os

from libc.stdint cimport int64_t

cdef extern from "c/tiss.h":
    const tiss_table* tiss_level(int level)
    void tiss_block_for(int64_t l1, int64_t l2)

LEVELS = ("baseline", "neon", "neon_bf16", "avx2", "avx512", "avx512_bf16")

cdef const tiss_table* _table = NULL


cdef const tiss_table* table() noexcept nogil:
    return _table


def available():
    """Return the names of the levels that this processor and this build have."""
    return tuple(name for i, name in enumerate(LEVELS) if tiss_level(i) != NULL)


def gemm_scratch(int channels, str stored):
    """Return the scratch of a product over C channels with activations so stored, in floats."""
    cdef tiss_gemm g
    g.m, g.n, g.k = 1, 1, channels
    g.a_row = g.a_col = g.b_row = g.b_col = 1
    g.a_type = g.c_type = ("float32", "uint16", "float16").index(stored)
    g.b_type = TISS_F32
    return _table.gemm_scratch(&g)


def block_for(long l1, long l2):
    """Block products for a core with a first and a second level of so many bytes.

    No bit depends on them, but scratch does: it is asked for anew.
    """
    tiss_block_for(l1, l2)


def multiplies_pairs():
    """Tell whether bfloat16 is multiplied as it is, instead of being widened to floats."""
    return bool(_table.pairs)


def name():
    """Return the name of the level in use."""
    return LEVELS[_table.level]


def attention_scratch(int T, int D, str stored):
    """Return the scratch of attention, in floats per thread.

    Sequences have T tokens, heads D channels, and activations are stored as float32, uint16
    (bfloat16) or float16.
    """
    return _table.of[("float32", "uint16", "float16").index(stored)].attention_scratch(T, D)


def _choose():
    global _table
    wanted = os.environ.get("TISSLM_ISA", "")
    have = available()
    if wanted and wanted not in LEVELS:
        raise ImportError(f"TISSLM_ISA: expected one of {', '.join(LEVELS)}, got {wanted!r}")
    if wanted and wanted not in have:
        raise ImportError(
            f"TISSLM_ISA={wanted}: this processor has only {', '.join(have)}; "
            "choose one of these or unset the variable"
        )
    _table = tiss_level(LEVELS.index(wanted or have[len(have) - 1]))


_choose()

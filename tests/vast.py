"""Arrays of more elements than memory holds: all but the end is the same few MiB again and again.

What is written to the front overwrites itself, so a test looks at the end only; zeros stay zeros.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["after_zeros"]

#: Bytes that are mapped again and again: a few thousand maps to an array, of 65,530 to a process.
PERIOD = 2**21

_MAP_FIXED, _MAP_NORESERVE, _MAP_POPULATE = 0x10, 0x4000, 0x8000
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def after_zeros(end: NDArray[Any], rows: int) -> NDArray[Any]:
    """Return an array of ``rows`` rows of zeros and then the rows of ``end``, of the same type."""
    shape = (rows + len(end), *end.shape[1:])
    nbytes = math.prod(shape) * end.itemsize
    repeated = (nbytes - end.nbytes) // PERIOD * PERIOD
    rest = -(-(nbytes - repeated) // mmap.PAGESIZE) * mmap.PAGESIZE
    start = _map(None, repeated + rest, 0, mmap.MAP_ANONYMOUS | mmap.MAP_PRIVATE)
    file = os.memfd_create("vast")
    os.ftruncate(file, PERIOD + rest)
    for place in range(start, start + repeated, PERIOD):
        _map_file(place, PERIOD, file, 0)
    _map_file(start + repeated, rest, file, PERIOD)
    os.close(file)
    memory = (ctypes.c_uint8 * nbytes).from_address(start)
    weakref.finalize(memory, _libc.munmap, start, repeated + rest)
    array = np.frombuffer(memory, dtype=end.dtype).reshape(shape)
    array[rows:] = end
    return array


def _map_file(place: int, nbytes: int, file: int, offset: int) -> None:
    writable = mmap.PROT_READ | mmap.PROT_WRITE
    # all pages at once: two million faults, one by one, take longer than most kernels
    flags = mmap.MAP_SHARED | _MAP_FIXED | _MAP_POPULATE
    _map(place, nbytes, writable, flags, file, offset)


def _map(place: int | None, nbytes: int, access: int, flags: int, file=-1, offset=0) -> int:
    found = _libc.mmap(place, nbytes, access, flags | _MAP_NORESERVE, file, offset)
    if found in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), f"no map of {nbytes} bytes")
    return int(found)

"""An array that is left out is one that may be; any other None is refused, and nothing crashes.

In a process of its own: what reads where no array is ends the process.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tisslm import ops
from tisslm.errors import ShapeError, TissLMError
from tisslm.ops.door import OPERATIONS

TESTS = Path(__file__).parents[1]
#: Left out, these are missed by an operation that its other arguments made need them.
NEEDED = {
    ("attention_backward", "dkv_M2TD"): "expected room for the query heads that share a key head",
    ("pool_backward", "argmax_PC"): "expected the places of the largest values, got None",
}


def leave_out() -> None:
    """Call every built-in operation with each of its arrays left out, and print what came of it."""
    from test_threads import GROUPS  # type: ignore[import-not-found]

    last = {case[1]: case[2] for cases in GROUPS.values() for case in cases()}
    for function, arguments in last.items():
        operation = OPERATIONS[function]
        for name in operation.marks.arrays:
            print(json.dumps([function, name]), end="", flush=True)
            given = [None if one == name else arguments[one] for one in _arguments(function)]
            try:
                operation.run(*given)
            except TissLMError as error:
                print(f"\t{error}", flush=True)
            else:
                print("\tdone", flush=True)


def _arguments(function: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(OPERATIONS[function].twin).parameters)


@pytest.mark.skipif(ops.REFERENCE_ONLY, reason="everything runs the twins")
def test_none_is_refused_where_an_array_is_needed_and_taken_where_it_is_not() -> None:
    path = os.pathsep.join([str(TESTS), str(TESTS / "kernels"), *sys.path])
    done = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{lines[-1:]}\n{done.stderr[-3000:]}"
    tried = {}
    for line in lines:
        place, _, outcome = line.partition("\t")
        function, name = json.loads(place)
        tried[function, name] = outcome
        if (function, name) in NEEDED:
            assert NEEDED[function, name] in outcome
        elif "None" in str(_arguments(function)[name].annotation):
            assert outcome == "done", (function, name)
        else:
            assert outcome == (
                f"{function}: {name}: expected an array, got None. Leave out only what the "
                "operation's docstring says may be None"
            )
    built_in = {name: OPERATIONS[name] for name in ops.operations.BUILT_IN}
    assert set(tried) == {(name, one) for name, op in built_in.items() for one in op.marks.arrays}


@pytest.mark.parametrize("place", range(3))
def test_matmul_tells_that_none_is_no_array(place: int) -> None:
    arrays: list[object] = [np.ones((2, 2), np.float32) for _ in range(3)]
    arrays[place] = None
    with pytest.raises(ShapeError, match=r"matmul: expected C-contiguous .* got .* None"):
        ops.matmul(*arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    leave_out()

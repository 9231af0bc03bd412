"""What an op reads and writes, by its twin's marks: for every op that a step runs."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from tisslm import ops
from tisslm.ops.door import OPERATIONS
from tisslm.ops.operands import op_name, operands_read, operands_written

#: What the names end in whose gradients are added to where a flag is true.
ADDING = ("linear_backward", "backward_weight", "norm_backward", "embedding_backward")


def test_every_array_of_every_twin_has_a_mark():
    """An argument of an array's type that no mark tells of would go unseen."""
    for name, operation in OPERATIONS.items():
        arguments = inspect.signature(operation.twin).parameters.values()
        arrays = {p.name for p in arguments if "Array" in str(p.annotation)}
        assert arrays == operation.marks.arrays, name


def test_an_array_that_is_added_to_names_the_flag_that_says_so():
    for name, operation in OPERATIONS.items():
        flags = {mark for mark in operation.marks.written.values() if isinstance(mark, str)}
        assert flags <= {*inspect.signature(operation.twin).parameters}, name
        assert bool(flags) == name.endswith(ADDING), name


class Names(ops.Watcher):
    def __init__(self):
        self.names = set()

    def before(self, op, args):
        self.names.add(op)


@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "label_smoothing"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_op_of_a_pass_is_followed(make_trainer, loss, precision):
    trainer = make_trainer(
        parts={"loss_fn": loss}, precision=precision, activation_checkpointing="full"
    )
    seen = Names()
    batch = next(trainer.dataset.batches(3, 1))
    with ops.watching(seen):
        trainer.session.step.gradients(batch)
    outside = {name for name in seen.names if OPERATIONS[name].part in ("optimizer", "monitors")}
    assert outside <= {"fill", "scale", "squared_norm"}
    assert "attention_backward" in seen.names


def test_what_is_added_to_is_read_and_what_is_overwritten_is_not():
    x, w, b = np.zeros((2, 3)), np.zeros((4, 3)), np.zeros(4)
    args = (np.zeros((2, 4)), x, w, b, False)
    read = "linear_backward_weight"
    assert [name for name, _ in operands_read(read, args)] == ["dy_NO", "x_NC"]
    assert [name for name, _ in operands_read(read, (*args[:4], True))] == [
        "dy_NO",
        "x_NC",
        "dw_OC",
        "db_O",
    ]
    assert [name for name, _ in operands_written(read, args)] == ["dw_OC", "db_O"]


def test_an_operand_that_is_none_is_left_out():
    args = (np.zeros((2, 3)), np.zeros((4, 3)), None, np.zeros((2, 4)))
    assert [name for name, _ in operands_read("linear_forward", args)] == ["x_NC", "w_OC"]


def test_rounding_has_its_own_name():
    x = np.zeros((2, 3), np.float32)
    assert op_name("dropout_forward", (x, x, 2, 0.0, 0, 0, 0, 0)) == "narrow"
    assert op_name("dropout_forward", (x, x, 2, 0.1, 0, 0, 0, 0)) == "dropout_forward"


def test_an_op_that_no_pass_runs_is_left_alone():
    assert not list(operands_read("sgd_update", (np.zeros(3),)))
    assert not list(operands_written("sgd_update", (np.zeros(3),)))

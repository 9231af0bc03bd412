"""The table of operands says what the twins' docstrings say, for every op that a step runs."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest

from tisslm import ops
from tisslm.ops.operands import (
    OPERANDS,
    SCRATCH,
    op_name,
    operands_read,
    operands_written,
)

LINE = re.compile(r"^(\w+(?:, \w+)*) : ndarray.*, (IN/OUT|IN|OUT|scratch)$", re.MULTILINE)


def marks(op):
    return {
        name: mark
        for names, mark in LINE.findall(inspect.getdoc(getattr(ops, op)) or "")
        for name in names.split(", ")
    }


@pytest.mark.parametrize("op", sorted(OPERANDS))
def test_the_table_is_that_of_the_docstring(op):
    if op == "matmul":  # whose public form has no marks
        return
    documented = marks(op)
    written = {name for name, mark in documented.items() if mark.endswith("OUT")}
    assert set(OPERANDS[op]) == written
    assert {name for name, mark in documented.items() if mark == "scratch"} <= SCRATCH
    for name, added in OPERANDS[op].items():
        assert (documented[name] == "IN/OUT") == bool(added), name


class Names(ops.Watcher):
    def __init__(self):
        self.names = set()

    def before(self, op, args):
        self.names.add(op)


@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "label_smoothing"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_op_of_a_pass_is_in_the_table(make_trainer, loss, precision):
    trainer = make_trainer(
        parts={"loss_fn": loss}, precision=precision, activation_checkpointing="full"
    )
    seen = Names()
    batch = next(trainer.dataset.batches(3, 1))
    with ops.watching(seen):
        trainer.session.step.gradients(batch)
    assert seen.names - set(OPERANDS) <= {"fill", "scale", "squared_norm"}
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


def test_an_op_that_is_not_in_the_table_is_left_alone():
    assert not list(operands_read("sgd_update", (np.zeros(3),)))
    assert not list(operands_written("sgd_update", (np.zeros(3),)))

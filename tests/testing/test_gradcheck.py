"""The gradient check passes on what there is, covers every operation, and reports what it did."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from flat_state import FlatMean, FlatMoments

from tisslm import ops
from tisslm.config.model import TransformerConfig
from tisslm.contracts import EmbeddingLoss, Loss, Optimizer, PreferenceLoss
from tisslm.errors import ConfigError
from tisslm.ops import door
from tisslm.registry import Part, Registry, hookspecs, load_registry
from tisslm.registry.discovery import PluginManager, Provider
from tisslm.registry.hookspecs import KINDS, Entry
from tisslm.testing import GradientRow, check_gradients
from tisslm.testing.gradients.problem import Case, Problem, rows_of

#: Operations with a backward, and updates; each has a twin and a compiled kernel.
ENDS = ("_backward", "_backward_input", "_backward_weight", "_tile", "_gradient", "_update")
PROVED = [name for name in dir(ops) if name.endswith(ENDS)]


@pytest.fixture(scope="module")
def everything():
    """Run the whole check once, and note which operations ran in which type."""
    seen = set()
    patch = pytest.MonkeyPatch()

    def watch(name, op):
        def watched(*args, **kwargs):
            seen.add((name, "float32" if door._has_kernel(args) else "float64"))
            return op(*args, **kwargs)

        return watched

    for name in PROVED:
        patch.setattr(ops, name, watch(name, getattr(ops, name)))
    rows = check_gradients()
    patch.undo()
    return rows, seen


def test_every_row_passes(everything):
    rows, _ = everything
    assert not [row for row in rows if not row.passed]
    assert {row.kind for row in rows} == {"kernel", "layer", "head", "loss", "model", "optimizer"}
    assert all(row.n_checked > 0 and row.worst for row in rows)


def test_every_operation_runs_as_twin_and_as_kernel(everything):
    _, seen = everything
    # the founding losses and optimizers reach all but softmax_gradient, which plugins use
    assert seen == {(name, dtype) for name in PROVED for dtype in ("float32", "float64")}


def test_every_registered_loss_and_optimizer_has_rows(everything):
    rows, _ = everything
    registry = load_registry()
    for kind, kinds in (("loss", ("loss", "head")), ("optimizer", ("optimizer",))):
        parts = {part.entry.name: part.load() for part in registry.entries(kind)}
        for row_kind in kinds:
            below_head = row_kind == "head"  # where losses of vectors or pairs have nothing to do
            expected = {
                name
                for name, cls in parts.items()
                if not (below_head and issubclass(cls, (EmbeddingLoss, PreferenceLoss)))
            }
            assert {row.name for row in rows if row.kind == row_kind} == expected


def test_tolerances_are_those_of_the_design(everything):
    rows, _ = everything
    for row in rows:
        if row.what == "float64 vs differences":
            assert row.tolerance == 1e-6
        elif row.what.startswith("float32 vs float64"):
            assert row.tolerance == 1e-4
        else:
            assert row.kind == "optimizer"


@pytest.mark.parametrize(
    ("component", "found"),
    [
        ("layer_norm", {("kernel", "layer_norm")}),
        ("attention", {("kernel", "attention"), ("layer", "attention")}),
        ("focal", {("loss", "focal"), ("head", "focal")}),
        ("contrastive", {("loss", "contrastive")}),
        ("adamw", {("optimizer", "adamw")}),
        ("mlp", {("layer", "mlp")}),
    ],
)
def test_a_component_is_a_name_of_any_kind(component, found):
    assert {(row.kind, row.name) for row in check_gradients(component)} == found


def test_a_component_may_be_a_kind():
    assert {row.kind for row in check_gradients("loss")} == {"loss"}


def test_an_unknown_component_is_named_with_the_nearest():
    with pytest.raises(ConfigError) as caught:
        check_gradients("layernorm")
    message = str(caught.value)
    assert re.match(r"gradcheck: unknown component 'layernorm'. Known: .*adam, .*adamw, ", message)
    assert message.endswith(". Did you mean 'layer_norm'?")


def registry_with(kind: str, target: object) -> Registry:
    manager = PluginManager()
    manager.add_hookspecs(hookspecs)
    registry = Registry(manager)
    entry = Entry("mine", target, "a part")
    registry._add(Part(KINDS[kind], entry, Provider("mine", "1.0")))
    return registry


class Hidden(Loss):
    """A loss on hidden states: half their squares."""

    needs = "hidden"
    sign = 1

    def whole(self, hidden_BTC, batch):
        gradient = hidden_BTC * batch.weights_BT[:, :, None]
        return 0.5 * float((gradient * hidden_BTC).sum()), self.sign * gradient


class HiddenWrongSign(Hidden):
    sign = -1


def test_a_loss_on_hidden_states_is_checked_below_the_head():
    rows = check_gradients("mine", registry_with("loss", Hidden))
    assert {row.kind for row in rows} == {"head"}
    assert all(row.passed for row in rows)
    # its gradient is right but for the sign, in either type alike
    rows = check_gradients("mine", registry_with("loss", HiddenWrongSign))
    assert [row.passed for row in rows] == [False, True]


class HalfInFloat32(FlatMean):
    """Its state is wrong in one type: float32."""

    def state(self):
        return {"mean": self.mean_P * (0.5 if self.mean_P.dtype == np.float32 else 1.0)}


def test_a_flat_state_is_compared_without_its_padding():
    """Padding fills 64 bytes: 720 numbers in float32 are 712 in float64."""
    for cls in (FlatMean, FlatMoments):
        rows = check_gradients("mine", registry_with("optimizer", cls))
        assert not [row for row in rows if not row.passed]
        # both parameters' changes, and their state: at least twice 667 + 37 numbers
        assert next(r.n_checked for r in rows if r.what == "float32 vs float64") >= 2 * 704
    rows = check_gradients("mine", registry_with("optimizer", HalfInFloat32))
    assert [row.passed for row in rows] == [True, False]
    assert rows[1].worst.startswith("weight/mean[")


class Uphill(Optimizer):
    """Wrong in both types alike."""

    def update(self, grad_scale):
        self.parameters.data[...] += self.get_lr() * self.parameters.grad


class Float32Uphill(Optimizer):
    """Wrong in float32."""

    def update(self, grad_scale):
        sign = 1 if self.parameters.data.dtype == np.float32 else -1
        self.parameters.data[...] += sign * self.get_lr() * self.parameters.grad


class Grows(Optimizer):
    """Decay with the wrong sign."""

    def __init__(self, parameters, lr, *, weight_decay=0.0):
        super().__init__(parameters, lr)
        self.weight_decay = weight_decay

    def update(self, grad_scale):
        data = self.parameters.data
        data -= self.get_lr() * (self.parameters.grad - self.weight_decay * data)


@pytest.mark.parametrize(
    ("wrong", "failed"),
    [
        (Uphill, {"a quadratic falls"}),
        (Float32Uphill, {"a quadratic falls", "float32 vs float64"}),
        (Grows, {"weight decay shrinks"}),
    ],
)
def test_a_wrong_optimizer_of_a_plugin_is_found(wrong, failed):
    rows = check_gradients("mine", registry_with("optimizer", wrong))
    assert {row.what for row in rows if not row.passed} == failed


@pytest.mark.parametrize("kind", ["loss", "optimizer"])
def test_a_part_that_cannot_be_imported_is_a_row_that_failed(kind):
    rows = check_gradients("mine", registry_with(kind, "tisslm.nowhere:Nothing"))
    assert rows
    assert not any(row.passed for row in rows)
    assert "could not be imported" in rows[0].worst


class Raises(Problem):
    """Raises whatever is asked of it."""

    def outputs(self):
        raise ValueError("no forward")

    def gradients(self):
        raise ValueError("no backward")


def test_an_exception_is_a_row_that_failed():
    rows = rows_of(Case("mine", "kernel", lambda dtype, large: Raises()))
    assert [row.worst for row in rows] == ["ValueError: no backward", "ValueError: no forward"]
    assert not any(row.passed for row in rows)


@pytest.mark.parametrize(
    ("error", "n_checked", "passed"),
    [(0.5, 3, True), (1.0, 3, False), (math.nan, 3, False), (math.inf, 3, False), (0.0, 0, False)],
)
def test_a_row_passes_if_something_was_checked_and_small(error, n_checked, passed):
    assert GradientRow("x", "kernel", "what", error, "", 1.0, n_checked).passed is passed


def test_a_model_of_ones_own_is_checked_alone():
    config = TransformerConfig(n_layer=1, n_head=1, n_embd=4, seq_len=5, vocab_size=7)
    rows = check_gradients(model=config)
    assert {row.kind for row in rows} == {"model"}
    assert all(row.passed for row in rows)

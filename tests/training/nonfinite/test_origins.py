"""A NaN in a weight, an activation, a gradient or the optimizer's state is traced to its origin."""

from __future__ import annotations

import json
import math
import os

import numpy as np
import pytest
from poison import Poison

from tisslm import ops
from tisslm.errors import NonFiniteError
from tisslm.optim.losses.cross_entropy import CrossEntropy
from tisslm.training.refusals.windows import batch_windows

#: Op, place, direction, operand, index; and what is said of it.
SPOILED = [
    (
        ("embedding_forward", "embedding", "forward", "h_NC", (17, 3)),
        "embedding, forward: embedding_forward made h_NC[17, 3] NaN "
        "(micro-batch 0, row 1, window {1}, token 1)",
    ),
    (
        ("attention_forward", "blocks.1.attention", "forward", "out_BTC", (2, 5, 7)),
        "blocks.1.attention, forward: attention_forward made out_BTC[2, 5, 7] NaN "
        "(micro-batch 0, row 2, window {2}, token 5)",
    ),
    (
        ("linear_activation_forward", "blocks.0.mlp", "forward", "a_NO", (47, 100)),
        "blocks.0.mlp, forward: linear_activation_forward made a_NO[47, 100] NaN "
        "(micro-batch 0, row 2, window {2}, token 15)",
    ),
    (
        ("layer_norm_forward", "final_norm", "forward", "y_NC", (0, 0)),
        "final_norm, forward: layer_norm_forward made y_NC[0, 0] NaN "
        "(micro-batch 0, row 0, window {0}, token 0)",
    ),
    (
        ("cross_entropy_tile", "head", "forward", "logits_NV", (20, 16)),
        "head, forward: cross_entropy_tile made logits_NV[20, 16] NaN "
        "(micro-batch 0, row 1, window {1}, token 4)",
    ),
    (
        ("linear_backward", "head", "backward", "dx_NC", (1, 1)),
        "head, backward: linear_backward made dx_NC[1, 1] NaN "
        "(micro-batch 0, row 0, window {0}, token 1)",
    ),
    (
        ("attention_backward", "blocks.0.attention", "backward", "dqkv_BTE", (1, 15, 40)),
        "blocks.0.attention, backward: attention_backward made dqkv_BTE[1, 15, 40] NaN "
        "(micro-batch 0, row 1, window {1}, token 15)",
    ),
    (
        ("linear_backward_weight", "blocks.1.mlp", "backward", "dw_OC", (6, 30)),
        "blocks.1.mlp, backward: linear_backward_weight made the gradient of "
        "blocks.1.mlp.down.weight[6, 30] NaN, 2 of 4096 in all (micro-batch 0)",
    ),
    (
        ("embedding_backward", "embedding", "backward", "dposition_TC", (3, 2)),
        "embedding, backward: embedding_backward made the gradient of "
        "embedding.position.weight[3, 2] NaN (micro-batch 0)",
    ),
]


def windows(trainer, position=1):
    return batch_windows(trainer.dataset, trainer.rows_per_update, 42, position)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(("where", "said"), SPOILED, ids=[place[0][0] for place in SPOILED])
def test_an_op_that_makes_a_nan_is_named_with_its_layer_and_direction(
    make_trainer, fail, where, said, precision
):
    trainer = make_trainer(precision=precision, loss_scale=1)
    message = fail(trainer, Poison(*where))
    found = message.partition("first in ")[2].partition("; not applied")[0]
    expected = said.format(*windows(trainer)).replace(", 2 of 4096 in all", "")
    assert found == expected


@pytest.mark.parametrize("checkpointing", ["none", "full"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_parameter_is_named_where_it_is_read(make_trainer, fail, precision, checkpointing):
    trainer = make_trainer(
        precision=precision, loss_scale=1, activation_checkpointing=checkpointing
    )
    trainer.model.parameters["blocks.1.mlp.up.weight"].data[3, 5] = np.inf
    message = fail(trainer, steps=1)
    assert (
        "first in blocks.1.mlp, forward: the parameter blocks.1.mlp.up.weight[3, 5] is Infinity "
        "where linear_activation_forward reads it (micro-batch 0); not applied"
    ) in message


@pytest.mark.parametrize("slot", ["m", "v"])
def test_a_state_of_the_optimizer_is_named_with_the_update(make_trainer, fail, slot):
    trainer = make_trainer(max_nonfinite=1)
    batch = next(trainer.dataset.batches(3, 42))
    trainer.optimizer.state()[f"blocks.0.attention.qkv.weight/{slot}"][90, 31] = np.nan
    trainer.train_step(*batch)
    with pytest.raises(NonFiniteError) as caught:
        trainer.train_step(*batch)
    message = str(caught.value)
    assert (
        "first in blocks.0.attention, update: adamw.update made the parameter NaN from the "
        f"optimizer's blocks.0.attention.qkv.weight/{slot}[90, 31], which is NaN; the parameters"
    ) in message
    assert "The model itself is damaged: go on from the last checkpoint" in message


def test_a_gradient_that_something_else_writes_is_named(make_trainer, fail):
    trainer = make_trainer()
    step_loss, where = trainer.model.step_loss, ("blocks.0.mlp.down.bias", 4)

    def spoiled(*arguments, **options):
        loss = step_loss(*arguments, **options)
        trainer.model.parameters[where[0]].grad[where[1]] = -np.inf
        return loss

    trainer.model.step_loss = spoiled
    message = fail(trainer, steps=1)
    assert (
        "first in blocks.0.mlp, backward: the gradient of blocks.0.mlp.down.bias[4] is -Infinity, "
        "which no operation made; not applied"
    ) in message


def test_a_gradient_between_micro_batches_is_named_where_it_is_added_to(make_trainer, fail):
    trainer = make_trainer(gradient_accumulation_steps=3, batch_size=1)
    step_loss, calls = trainer.model.step_loss, []

    def spoiled(*arguments, first_row, **options):
        loss = step_loss(*arguments, first_row=first_row, **options)
        if first_row == 1:
            trainer.model.parameters["final_norm.weight"].grad[7] = np.nan
        calls.append(first_row)
        return loss

    trainer.model.step_loss = spoiled
    message = fail(trainer, steps=1)
    assert calls == [0, 1, 2] * 2  # the window that failed was run again, once
    assert (
        "first in final_norm, backward: layer_norm_backward is given NaN as the gradient of "
        "final_norm.weight[7], which no operation made; layer_norm_backward, final_norm, backward "
        "had left it finite (micro-batch 2)"
    ) in message


def test_an_activation_that_something_else_writes_is_named_with_who_reads_it(make_trainer, fail):
    trainer = make_trainer()
    layer = trainer.model.layers[2]
    forward = layer.forward

    def spoiled(h_NC, saved, scratch, ctx):
        h_NC[33, 4] = np.nan
        forward(h_NC, saved, scratch, ctx)

    layer.forward = spoiled
    message = fail(trainer, steps=1)
    assert (
        "first in blocks.1.attention, forward: layer_norm_forward is given NaN as its h_NC[33, 4], "
        "which no operation made; residual_forward, blocks.0.mlp, forward had left it finite "
        f"(micro-batch 0, row 2, window {windows(trainer, 0)[2]}, token 1)"
    ) in message


def test_what_a_layer_leaves_without_an_op_is_named(make_trainer, fail):
    trainer = make_trainer()
    layer = trainer.model.layers[1]
    backward = layer.backward

    def spoiled(dh_NC, saved, scratch, ctx):
        backward(dh_NC, saved, scratch, ctx)
        dh_NC[16, 0] = np.inf

    layer.backward = spoiled
    message = fail(trainer, steps=1)
    assert (
        "first in blocks.0.mlp, backward: it leaves d_stream[16, 0] Infinity, which no operation "
        f"made (micro-batch 0, row 1, window {windows(trainer, 0)[1]}, token 0)"
    ) in message


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_recomputed_forward_has_a_direction_of_its_own(make_trainer, fail, precision):
    trainer = make_trainer(
        precision=precision,
        loss_scale=1,
        activation_checkpointing="full",
        gradient_accumulation_steps=3,
        batch_size=2,
    )
    poison = Poison(
        "attention_forward", "blocks.0.attention", "recompute", "lse_BHT", (1, 0, 9),
        micro=2, micros=3,
    )  # fmt: skip
    message = fail(trainer, poison)
    assert (
        "first in blocks.0.attention, recompute: attention_forward made lse_BHT[1, 0, 9] NaN "
        f"(micro-batch 2, row 5, window {windows(trainer)[5]}, token 9)"
    ) in message


def test_rows_are_counted_over_the_chunks_of_a_layer(make_trainer, fail):
    """1040 rows are a chunk of 1024 and one of 16, in the MLP and under the loss alike."""
    trainer = make_trainer(batch_size=65, tokens=4000)
    poison = _SecondChunk("activation_backward", "blocks.0.mlp", "backward", "dx_NF", (5, 1))
    message = fail(trainer, poison, steps=1)
    row, token = divmod(1024 + 5, 16)
    assert f"made dx_NF[5, 1] NaN (micro-batch 0, row {row}, window " in message
    assert f", token {token})" in message


class _SecondChunk(Poison):
    """Spoils the last chunk of a place only."""

    def after(self, op, args):
        if len(args[0]) == 16:
            super().after(op, args)


def test_documents_that_are_kept_apart_are_run_again_as_they_were(
    make_trainer, packed, fail, monkeypatch
):
    trainer = make_trainer(parts={"dataset": packed})
    poison = Poison("attention_forward", "blocks.1.attention", "forward", "out_BTC", (1, 2, 3))
    seen, attend = [], ops.attention_forward

    def kept(*args):
        seen.append(
            args[-2].copy()
        )  # start_BT; behind it are stops, of which a causal mask has none
        attend(*args)

    monkeypatch.setattr(ops, "attention_forward", kept)
    message = fail(trainer, poison)
    assert (
        "attention_forward made out_BTC[1, 2, 3] NaN "
        f"(micro-batch 0, row 1, window {windows(trainer)[1]}, token 2)"
    ) in message
    first, again = seen[2:4], seen[4:6]  # two layers of the second step, and of its search
    assert np.array_equal(first, again)
    assert np.any(first[0])


def test_an_op_that_overflows_by_itself_is_named(make_trainer, fail):
    trainer = make_trainer()
    for name in ("up", "down"):
        trainer.model.parameters[f"blocks.0.mlp.{name}.weight"].data *= np.float32(1e38)
    message = fail(trainer, steps=1)
    assert "first in blocks.0.mlp, forward: linear_forward made y_NO[0, 0] " in message


def test_a_fault_that_does_not_recur_is_one_of_the_hardware(make_trainer, fail):
    trainer = make_trainer()
    where = ("linear_forward", "blocks.0.mlp", "forward", "y_NO", (4, 4))
    message = fail(trainer, Poison(*where, times=1))
    assert (
        "step 2: the loss is nan and the gradient norm nan; run again, the same window has a loss "
        "of 2."
    ) in message
    assert (
        ", both finite: a pass has the same bits whenever it is run, so this was a fault of the "
        "hardware (memory, processor), not of the model or the data; not applied, 1 in a row"
    ) in message


def test_advice_after_a_fault_of_the_hardware(make_trainer):
    trainer = make_trainer(on_nonfinite="stop")
    poison = Poison("attention_forward", "blocks.0.attention", "forward", "lse_BHT", (0, 0, 0))
    poison.times = 1
    batch = next(trainer.dataset.batches(3, 42))
    with (
        trainer.model.observed(poison),
        ops.watching(poison),
        pytest.raises(NonFiniteError) as caught,
    ):
        trainer.train_step(*batch)
    assert "Go on from the last checkpoint, on another machine or after a test of this one" in str(
        caught.value
    )


class _Counting(CrossEntropy):
    """Fails in the second pass over anything, and says that it keeps a state."""

    def __init__(self, fails_at):
        super().__init__()
        self.calls, self.fails_at = 0, fails_at

    def tile(self, logits_NV, targets_N, weights_N, *, gradient=True):
        losses_N = super().tile(logits_NV, targets_N, weights_N, gradient=gradient)
        self.calls += 1
        if self.calls == self.fails_at:
            losses_N[0] = np.nan
        if self.calls == self.fails_at + 1 and self.fails_at == 1:
            raise RuntimeError("a plugin's own fault")
        return losses_N

    def state(self):
        return {"calls": self.calls}

    def load_state(self, state):
        self.calls = state["calls"]


def test_a_loss_with_a_memory_is_given_its_state_back_and_not_blamed_on_the_hardware(
    make_trainer, fail
):
    trainer = make_trainer(parts={"loss_fn": _Counting(2)})
    message = fail(trainer)
    assert (
        "both finite: the loss _Counting keeps a state, so the two passes may differ by that; "
        "otherwise it was a fault of the hardware; not applied"
    ) in message
    assert trainer.loss_fn.calls == 2  # of the two steps, and not of the search


def test_an_error_in_the_search_hides_nothing(make_trainer, fail):
    trainer = make_trainer(parts={"loss_fn": _Counting(1)})
    message = fail(trainer, steps=1)
    assert ("step 1: the loss is nan and the gradient norm ") in message
    assert (
        "; the search for its origin failed (RuntimeError: a plugin's own fault); not applied, 1 "
        "in a row"
    ) in message
    assert type(trainer.loss_fn) is _Counting


def test_nothing_of_the_search_is_left(make_trainer, fail):
    """The steps after a refused one have the bits that they have without a search."""
    spoiled, plain = make_trainer(), make_trainer(folder="plain")
    fail(
        spoiled, Poison("attention_forward", "blocks.0.attention", "forward", "lse_BHT", (0, 0, 0))
    )
    batches = list(zip(range(4), spoiled.dataset.batches(3, 42), strict=False))
    losses = [spoiled.train_step(*batch) for number, batch in batches if number > 1]
    expected = [plain.train_step(*batch) for number, batch in batches if number != 1]
    assert losses == expected[1:]
    assert np.array_equal(spoiled.model.parameters.data, plain.model.parameters.data)
    assert spoiled.model.observers == ()


def test_a_model_in_float64_is_traced_by_its_twins(make_trainer, fail):
    trainer = make_trainer(dtype="float64")
    where = ("layer_norm_backward", "blocks.0.mlp", "backward", "dgamma_C", (3,))
    assert "made the gradient of blocks.0.mlp.norm.weight[3] NaN" in fail(trainer, Poison(*where))


def test_an_element_of_an_rms_norm_is_traced_to_its_token(make_trainer, fail):
    trainer = make_trainer(model={"norm": "rms"})
    where = ("rms_norm_forward", "blocks.1.mlp", "forward", "y_NC", (20, 3))
    expected = "rms_norm_forward made y_NC[20, 3] NaN (micro-batch 0, row 1, window {1}, token 4)"
    assert expected.format(*windows(trainer)) in fail(trainer, Poison(*where))
    trainer = make_trainer(model={"norm": "rms"}, folder="other")
    where = ("rms_norm_backward", "blocks.0.mlp", "backward", "dgamma_C", (3,))
    assert "made the gradient of blocks.0.mlp.norm.weight[3] NaN" in fail(trainer, Poison(*where))


def test_an_element_of_a_norm_of_queries_and_keys_is_traced_to_its_token(make_trainer, fail):
    trainer = make_trainer(model={"qk_norm": "head"})
    # what forward leaves of it is scratch that nobody reads: backward computes it again
    where = ("head_norm_forward", "blocks.1.attention", "backward", "rstd_NU", (20, 1))
    expected = (
        "head_norm_forward made rstd_NU[20, 1] NaN (micro-batch 0, row 1, window {1}, token 4)"
    )
    assert expected.format(*windows(trainer)) in fail(trainer, Poison(*where))


def test_the_file_has_the_finding(make_trainer):
    trainer = make_trainer(on_nonfinite="stop")
    trainer.run.make()
    trainer.model.parameters["embedding.position.weight"].data[2, 1] = np.nan
    with pytest.raises(NonFiniteError):
        trainer.train_step(*next(trainer.dataset.batches(3, 42)))
    known = json.loads((trainer.run.path / "nonfinite-step-1.json").read_text())
    finding = known["finding"]
    words = finding.pop("words")
    assert words == (
        "first in embedding, forward: the parameter embedding.position.weight[2, 1] is NaN where "
        "embedding_forward reads it (micro-batch 0)"
    )
    assert finding == {
        "recurs": True,
        "loss": "NaN",
        "grad_norm": "NaN",
        "fault": {
            "kind": "parameter",
            "place": "embedding",
            "direction": "forward",
            "op": "embedding_forward",
            "operand": "position_TC",
            "name": "embedding.position.weight",
            "index": [2, 1],
            "value": "NaN",
            "count": 1,
            "size": 512,
            "micro_batch": 0,
            "row": None,
            "token": None,
            "window": None,
            "after": "",
        },
        "remark": "",
    }


def test_arrays_of_ones_own_are_in_the_file(make_trainer):
    trainer = make_trainer(on_nonfinite="stop")
    trainer.run.make()
    trainer.model.parameters["final_norm.bias"].data[0] = np.nan
    x = np.arange(32).reshape(2, 16) % 17
    with pytest.raises(NonFiniteError, match="rows 0 to 1 of the arrays given to train_step"):
        trainer.train_step(x, x + 0)
    known = json.loads((trainer.run.path / "nonfinite-step-1.json").read_text())
    assert known["arrays"] == {"x": x.tolist(), "y": x.tolist()}
    assert math.isnan(float(known["loss"]))


def test_a_disk_that_refuses_the_file_leaves_no_half_of_it(make_trainer, monkeypatch):
    trainer = make_trainer(on_nonfinite="stop")
    trainer.run.make()
    trainer.model.parameters["final_norm.bias"].data[0] = np.nan

    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(NonFiniteError):
        trainer.train_step(*next(trainer.dataset.batches(3, 42)))
    assert [path.name for path in trainer.run.path.iterdir() if path.is_file()] == []

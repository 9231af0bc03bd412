"""Which steps are recorded, and that a recorded run is the run."""

from __future__ import annotations

import json

import numpy as np
import pytest
from chrome_trace import check_trace

from tisslm import ops
from tisslm.tracking.profiling import profiler as module
from tisslm.tracking.profiling.records import OUTSIDE

WATCHED = ops.watch_regions(None)  # else: twins, or a build without OpenMP


def numbers(trainer) -> list[int]:
    return [step.number for step in trainer.profile.steps]


def test_a_run_without_a_profile_has_none(make_trainer, tmp_path):
    trainer = make_trainer()
    trainer.train()
    assert trainer.profile is None
    assert not (tmp_path / "run" / "trace.json").exists()
    assert trainer.model.observers == ()


def test_steps_are_recorded_after_three_that_warm_up(make_trainer, tmp_path):
    trainer = make_trainer(profile_steps=2)
    trainer.train()
    assert numbers(trainer) == [4, 5]
    assert len(trainer.profile.plain) == 2  # the first is not counted
    assert trainer.profile.path == str(tmp_path / "run" / "trace.json")
    assert trainer.model.observers == ()


@pytest.mark.parametrize(("steps", "wanted", "found"), [(4, 2, [3, 4]), (2, 5, [1, 2])])
def test_a_short_run_warms_up_less_and_then_records_less(make_trainer, steps, wanted, found):
    trainer = make_trainer(max_steps=steps, profile_steps=wanted)
    trainer.train()
    assert numbers(trainer) == found


@pytest.mark.filterwarnings("ignore:the run goes on under other conditions:RuntimeWarning")
def test_a_run_that_goes_on_is_recorded_from_there(make_trainer, tmp_path):
    make_trainer(max_steps=3).train()
    run = str(tmp_path / "run")
    trainer = make_trainer(max_steps=9, profile_steps=1, resume=run)
    trainer.train()
    assert numbers(trainer) == [7]
    complete = make_trainer(max_steps=9, profile_steps=1, resume=run)
    complete.train()
    assert complete.profile is None


WAYS = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    # its first steps overflow; NumPy's twins would warn of it
    "fp16": {"precision": "fp16", "loss_scale_init": 2**16 if ops.REFERENCE_ONLY else 2**24},
    "checkpointed": {"activation_checkpointing": "full"},
    "accumulated": {"gradient_accumulation_steps": 2},
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_recorded_run_has_the_bits_of_the_run(make_trainer, way):
    plain, recorded = make_trainer("plain", **way), make_trainer(profile_steps=9, **way)
    plain.train()
    recorded.train()
    assert recorded.profile is not None
    assert plain.loss_history == recorded.loss_history
    assert np.array_equal(plain.model.parameters.data, recorded.model.parameters.data)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_every_call_lies_in_its_place_and_its_threads_in_the_call(make_trainer, way):
    trainer = make_trainer(profile_steps=2, **way)
    trainer.train()
    for step in trainer.profile.steps:
        assert step.calls
        for call in step.calls:
            assert step.start <= call.start <= call.end <= step.end
            around = [
                span
                for span in step.spans
                if span.start <= call.start and call.end <= span.end
            ]  # fmt: skip
            if call.place == OUTSIDE:
                assert not around
            else:
                assert [(s.place, s.direction) for s in around] == [(call.place, call.direction)]
            assert bool(call.shares) == WATCHED, call.operation
            for share in call.shares:
                assert call.start <= share.start <= share.end <= call.end
            assert WATCHED <= call.busy <= 2 * (call.end - call.start)
            assert call.nbytes > 0


def test_kernels_are_found_where_they_are_called(make_trainer):
    trainer = make_trainer(profile_steps=1, activation_checkpointing="full")
    trainer.train()
    (step,) = trainer.profile.steps
    places = {(call.operation, call.place, call.direction) for call in step.calls}
    assert {
        ("embedding_forward", "embedding", "forward"),
        ("attention_forward", "blocks.1.attention", "forward"),
        ("attention_forward", "blocks.0.attention", "recompute"),
        ("attention_backward", "blocks.0.attention", "backward"),
        ("cross_entropy_tile", "head", "forward"),
        ("adam_update", OUTSIDE, ""),
        ("squared_norm", OUTSIDE, ""),
    } <= places
    assert {span.place for span in step.spans} >= {"batch", "final_norm", "blocks.1.mlp"}


def test_products_of_a_step_are_all_counted(make_trainer):
    trainer = make_trainer(profile_steps=1)
    trainer.train()
    (step,) = trainer.profile.steps
    rows, width = 3 * 16, 32
    block = 4 * width * width + 8 * width * width  # qkv and out; up and down
    products = 3 * 2 * rows * (2 * block + width * 17)  # forward and two of backward
    counted = sum(call.flops for call in step.calls if call.operation.startswith("linear_"))
    assert counted == products


def test_a_run_that_breaks_leaves_what_was_recorded(make_trainer, tmp_path, monkeypatch):
    trainer = make_trainer(profile_steps=4, max_steps=20)
    make_step, count = trainer.session.train_step, iter(range(20))

    def breaking(batch):
        if next(count) == 5:
            raise ZeroDivisionError
        return make_step(batch)

    monkeypatch.setattr(trainer.session, "train_step", breaking)
    with pytest.raises(ZeroDivisionError):
        trainer.train()
    assert numbers(trainer) == [4, 5]
    check_trace((tmp_path / "run" / "trace.json").read_text())
    assert trainer.model.observers == ()


def test_a_disk_that_refuses_the_trace_does_not_end_the_run(make_trainer, monkeypatch):
    def refuse(path, profile):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_trace", refuse)
    trainer = make_trainer(profile_steps=1)
    with pytest.warns(RuntimeWarning, match=r"trace.json \(No space left on device\); the"):
        trainer.train()
    assert trainer.current_step == 6
    assert trainer.profile.path == ""
    assert "profile of step 4:" in trainer.profile.table()


@pytest.mark.filterwarnings("ignore:the run goes on under other conditions:RuntimeWarning")
def test_a_later_profile_of_the_run_replaces_the_trace(make_trainer, tmp_path):
    make_trainer(max_steps=4, profile_steps=1).train()
    trainer = make_trainer(max_steps=8, profile_steps=2, resume=str(tmp_path / "run"))
    trainer.train()
    events = json.loads((tmp_path / "run" / "trace.json").read_text())["traceEvents"]
    assert [e["name"] for e in events if e.get("cat") == "step"] == ["step 7", "step 8"]

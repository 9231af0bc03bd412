"""What decides whether figures mean anything: verification, choice of the peer, counted work."""

from __future__ import annotations

import dataclasses
import functools
import tomllib
from pathlib import Path

import numpy as np
import pytest

from tisslm import ops
from tisslm.config import RunConfig
from tisslm.ops.cost import part_of
from tisslm.ops.door import OPERATIONS

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _one_thread():
    ops.set_threads(1)
    yield
    ops.set_threads(None)


@pytest.fixture
def tiny_job(script):
    """Ours, in two layers of 16 channels."""
    job, sizes = script("job"), script("sizes")
    ours = job.Contestant("tisslm", "tisslm", 1)
    return job.Job(sizes.parse_size("2,2,16,11,2,8"), True, (ours,), steps=1, rounds=1)


@pytest.fixture(params=["gpt2", "llama"])
def every_job(request, script, tiny_job):
    """The same, of both families."""
    family = {"gpt2": tiny_job.size.family, "llama": script("families").Llama(1, 24)}
    size = dataclasses.replace(tiny_job.size, family=family[request.param])
    return dataclasses.replace(tiny_job, size=size)


# ------------------------------------------------------------------ losses


def test_ours_in_one_precision_must_agree_to_the_bit(script):
    contestant = script("job").Contestant
    ours = contestant("tisslm", "tisslm", 1)
    checkpointed = contestant("full", "tisslm", 2, activation_checkpointing="full")
    assert ours.tolerance(checkpointed) == 0
    assert 0 < ours.tolerance(contestant("torch", "torch", 1)) < 1e-3
    low = contestant("bf16", "tisslm", 1, "bf16")
    assert ours.tolerance(low) == low.tolerance(ours) > 0


@pytest.mark.parametrize("other", ["1 thread", "torch"])
def test_other_losses_stop_the_run(script, tiny_job, other):
    job, turns = script("job"), script("turns")
    kind = "torch" if other == "torch" else "tisslm"
    rival = job.Contestant(other, kind, 1)
    measured = turns.Measured(tiny_job)
    off = 2e-4 if kind == "torch" else 1e-15
    measured.losses = {"tisslm": [4.0, 1.0], other: [4.0, 1.0 + off]}
    with pytest.raises(turns.LossMismatchError, match=f"update 2 .* in {other}"):
        turns.compare(measured, tiny_job.contestants[0], rival)
    measured.losses[other] = measured.losses["tisslm"]
    turns.compare(measured, tiny_job.contestants[0], rival)


def test_a_loss_that_is_not_a_number_stops_the_run(script, tiny_job):
    job, turns = script("job"), script("turns")
    measured = turns.Measured(tiny_job)
    measured.losses = {"tisslm": [4.0], "torch": [float("nan")]}
    with pytest.raises(turns.LossMismatchError):
        turns.compare(measured, tiny_job.contestants[0], job.Contestant("torch", "torch", 1))


def test_the_share_is_of_the_peak_of_its_own_round(script, tiny_job):
    measured = script("turns").Measured(tiny_job, steps=1)
    (ours,) = tiny_job.contestants
    work = tiny_job.size.tokens * tiny_job.size.flops_per_token(True) / 1e9
    measured.seconds = {"tisslm": [work / 50, work / 40, work / 10]}
    measured.peaks = {"fp32": [100.0, 50.0, 40.0]}  # a machine that slows down
    assert measured.of_peak(ours) == pytest.approx(0.5)


class FakeSide:
    """A side whose updates take a known time."""

    def __init__(self, who: str, seconds: float) -> None:
        self.who, self.seconds, self.open = who, seconds, True

    def ask(self, do: str, n: int) -> dict[str, float]:
        return {"seconds": self.seconds * n}

    def close(self) -> None:
        self.open = False


def test_the_faster_peer_is_kept_and_the_slower_one_ended(script, monkeypatch):
    job, turns, sizes = script("job"), script("turns"), script("sizes")
    monkeypatch.setattr(turns, "PAUSE_SECONDS", 0.0)
    everyone = tuple(
        job.Contestant(who, kind, 1)
        for who, kind in (("tisslm", "tisslm"), ("a", "torch"), ("b", "torch-compile"))
    )
    measured = turns.Measured(job.Job(sizes.parse_size("1,2,16,11,2,8"), True, everyone), steps=6)
    ours, slow, fast = FakeSide("tisslm", 9.0), FakeSide("a", 2.0), FakeSide("b", 1.0)
    assert turns.with_fastest_peer([ours, slow, fast], measured) == [ours, fast]
    assert measured.not_chosen == {"a": 16 / 2.0}
    assert (slow.open, fast.open) == (False, True)


# ------------------------------------------------------------------ work


def test_a_kernel_that_is_wrong_is_not_timed(script, monkeypatch):
    kernels, sizes = script("kernels"), script("sizes")
    right = ops.layer_norm_forward

    @functools.wraps(right)
    def wrong(*args):
        right(*args)
        if args[0].dtype == np.float32:
            args[3][0, 0] += 0.01

    choice = kernels.Choice(sizes.parse_size("1,2,16,11,2,8"), "fp32", "")
    everything = {case.operation for case in choice.cases()}
    assert kernels.verify(choice, everything) == {}
    spoiled = dataclasses.replace(OPERATIONS["layer_norm_forward"], run=wrong)
    monkeypatch.setitem(OPERATIONS, "layer_norm_forward", spoiled)
    with pytest.raises(kernels.KernelMismatchError, match="layer_norm_forward 16x16: argument 3"):
        kernels.verify(choice, everything)


#: What only a step with dropout calls: a product that is not added to the stream at once, too.
DROPOUT = {"dropout_forward", "dropout_backward", "residual_forward"}


def test_the_cases_are_the_operations_of_a_step(script, every_job):
    """With dropout's own, which a step without dropout does not call, and evaluation's."""
    cases, profile = script("cases"), script("profile_step")
    used = set()

    class Noting(ops.Watcher):
        def before(self, op, args):
            used.add(op)

    side = profile.make_side(every_job)
    with ops.watching(Noting()):
        side.updates(1)
    known = {case.operation for case in cases.cases(every_job.size)}
    assert used - known <= {"fill", "scale"}
    others = {name for name in known if part_of(name) == "norms"}  # of norms that it does not have
    assert known - used <= DROPOUT | others | {"activation_forward", "target_rank"}


def test_the_timers_see_every_product(script, every_job):
    _, parts = script("profile_step").verify(every_job)
    assert sum(part.flops for part in parts.values()) == every_job.size.product_flops
    assert all(part.nbytes > 0 for part in parts.values())


# ------------------------------------------------------------------ threads, plan, numbers


@pytest.mark.parametrize("share", [0.0, 0.03, 0.4])
def test_the_serial_share_of_amdahls_law_is_found(script, share):
    threads = script("threads")
    seconds = {n: 7 * (share + (1 - share) / n) for n in (1, 2, 4, 7)}
    assert threads.serial_share(seconds) == pytest.approx(share, abs=1e-12)
    assert threads.speed_up(share, 16) == pytest.approx(1 / (share + (1 - share) / 16))
    assert threads.serial_share({1: 7.0}) is None


@pytest.mark.parametrize(("cores", "counts"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6])])
def test_thread_counts_double_up_to_all_cores(script, cores, counts):
    assert script("threads").parse_threads("", cores) == counts


def test_the_configuration_that_is_planned_loads(script, every_job, tmp_path):
    text = script("memory").plan_config(every_job, tmp_path / "text.txt")
    config = RunConfig.from_mapping(tomllib.loads(text))
    assert config.training.batch_size == every_job.size.batch
    assert config.model.items() >= every_job.size.model(True).items()


def test_a_setting_that_ours_refuses_is_said_in_its_words(script, tiny_job, tmp_path):
    """As this version's own sentence, not as a side that broke."""
    protocol, ours = script("protocol"), script("sides.ours")
    request = tiny_job.request(tiny_job.contestants[0]) | {"precision": "fp8"}
    with pytest.raises(protocol.UnavailableError, match=r"training\.precision: expected"):
        ours.OurSide().prepare(request, str(tmp_path))

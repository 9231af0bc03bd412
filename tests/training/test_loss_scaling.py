"""Loss scaling: exact where nothing overflows, and a skipped step where something does.

The model of these tests says that it runs in fp16 and computes in float32, so that a scale, which
is a power of two, must leave every bit as it is. Its gradients overflow as fp16's do.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from checkpoints import reseal

from tisslm import Transformer, TransformerConfig
from tisslm.config.training_types import LARGEST_SCALE
from tisslm.contracts import Monitor, Optimizer, Sink
from tisslm.errors import CheckpointError, NonFiniteError
from tisslm.optim.loss_scaling import LossScaler

VOCAB = 17
HALF_MAX = 65504.0


class Half(Transformer):
    """A float32 model that is told to run in fp16; gradients of ``limit`` and more overflow."""

    def __init__(self, limit: float = math.inf) -> None:
        sizes = {"n_layer": 2, "n_head": 2, "n_embd": 32, "seq_len": 16, "vocab_size": VOCAB}
        super().__init__(TransformerConfig(**sizes, dropout=0.1), seed=1)
        self.limit = limit
        self.prepared = []

    def prepare(self, **how):
        self.prepared.append(how)

    def _overflow(self):
        grad = self.parameters.grad
        grad[np.abs(grad) >= self.limit] = np.inf

    def step_loss(self, batch, loss, **options):
        total = super().step_loss(batch, loss, **options)
        if options.get("gradient", True):
            self._overflow()
        return total

    def backward(self, d_logits, cache):
        super().backward(d_logits, cache)
        self._overflow()


class Lines(Sink):
    """Keeps what it is told."""

    def __init__(self):
        self.lines = []

    def open(self, run):
        pass

    def write(self, step, metrics):
        self.lines.append((step, dict(metrics)))


class Unscaled(Optimizer):
    """Plain gradient descent that leaves the factor to the contract."""

    def update(self, grad_scale):
        self.parameters.data -= np.float32(self.get_lr()) * self.parameters.grad


@pytest.fixture
def make_half(make_trainer):
    def make(limit=math.inf, *, parts=None, **config):
        model = Half(limit)
        return make_trainer(parts={"model": model, **(parts or {})}, precision="fp16", **config)

    return make


OPTIMIZERS = ["adamw", ("sgd", {"momentum": 0.9}), "rmsprop"]


@pytest.mark.parametrize("max_grad_norm", [0.0, 0.05, 100.0])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_a_scale_changes_no_bit(make_half, make_trainer, same_bits, optimizer, max_grad_norm):
    config = {"max_grad_norm": max_grad_norm, "gradient_accumulation_steps": 2}
    plain = make_trainer(folder="plain", parts={"optimizer": optimizer}, **config)
    scaled = make_half(folder="scaled", parts={"optimizer": optimizer}, **config)
    plain.train()
    scaled.train()
    assert scaled.loss_scale == 65536
    assert same_bits(plain, scaled)
    assert plain.compute_grad_norm() == scaled.compute_grad_norm()


def test_a_scale_changes_no_bit_where_the_contract_takes_it_out(make_trainer):
    runs = []
    for precision in ("fp32", "fp16"):
        model = Half()
        optimizer = Unscaled(model.parameters, 1e-2)
        parts = {"model": model, "optimizer": optimizer, "scheduler": "constant"}
        trainer = make_trainer(
            folder=precision, parts=parts, precision=precision, max_grad_norm=0.05
        )
        trainer.train()
        runs.append(trainer.model.parameters.data)
    assert np.array_equal(*runs)


def test_an_overflow_skips_the_update_and_halves_the_scale(make_half):
    trainer = make_half(HALF_MAX, parts={"optimizer": "adamw"}, loss_scale_init=2**24)
    x = np.arange(48).reshape(3, 16) % VOCAB
    trainer.model.limit = 0.0
    before = trainer.model.parameters.data.copy()
    state = {name: array.copy() for name, array in trainer.optimizer.state().items()}
    lr = trainer.scheduler.get_lr()
    loss = trainer.train_step(x, x)
    assert math.isfinite(loss)
    assert not math.isfinite(trainer.compute_grad_norm())
    assert np.array_equal(before, trainer.model.parameters.data)
    assert all(np.array_equal(state[n], a) for n, a in trainer.optimizer.state().items())
    assert trainer.scheduler.get_lr() == lr
    assert (trainer.current_step, trainer.skipped_steps) == (0, 1)
    assert trainer.model.parameters.updates == 0
    assert trainer.loss_history == []
    assert trainer.loss_scale == 2**23
    trainer.model.limit = math.inf
    assert trainer.train_step(x, x) == loss  # the same dropout: no update was made
    assert (trainer.current_step, trainer.skipped_steps) == (1, 1)
    assert trainer.loss_scale == 2**23


def test_a_run_makes_all_its_updates_and_goes_on_in_the_data(make_half, make_trainer, same_bits):
    sink = Lines()
    trainer = make_half(HALF_MAX, parts={"sinks": [sink]}, loss_scale_init=2**24, max_steps=6)
    trainer.train()
    assert trainer.skipped_steps > 0
    assert trainer.current_step == len(trainer.loss_history) == 6
    assert [step for step, _ in sink.lines] == [1, 2, 3, 4, 5, 6]
    metrics = sink.lines[-1][1]
    assert metrics["train/skipped_steps"] == trainer.skipped_steps
    assert metrics["train/loss_scale"] == trainer.loss_scale == 2**24 / 2**trainer.skipped_steps
    taken = 6 + trainer.skipped_steps
    assert metrics["train/num_input_tokens_seen"] == taken * 48
    # every skipped step has used up its batch: a plain trainer that is given the others does the
    # same (15 batches are an epoch, so the numbers count them from the start)
    plain = make_trainer(folder="plain", max_steps=6)
    batches = plain.dataset.batches(3, seed=42)
    given = [next(batches) for _ in range(taken)]
    for x, y in given[trainer.skipped_steps :]:
        plain.train_step(x, y)
    assert same_bits(trainer, plain)


def test_the_scale_grows_after_an_interval_without_an_overflow(make_half):
    trainer = make_half(loss_scale_growth_interval=4, max_steps=9, loss_scale_init=2**10)
    trainer.train()
    assert trainer.loss_scale == 2**12
    assert trainer.scaler.good_updates == 1


def test_an_overflow_begins_the_interval_anew(make_half):
    trainer = make_half(loss_scale_growth_interval=4, loss_scale_init=2**10)
    x = np.arange(48).reshape(3, 16) % VOCAB
    scales = []
    for limit in [math.inf] * 3 + [0.0] + [math.inf] * 4:
        trainer.model.limit = limit
        trainer.train_step(x, x)
        scales.append(trainer.loss_scale)
    assert scales == [2**10] * 3 + [2**9] * 4 + [2**10]


@pytest.mark.filterwarnings("ignore:the run goes on under other conditions:RuntimeWarning")
def test_a_shorter_interval_than_before_counts_at_once(make_half):
    trainer = make_half()
    trainer.train()
    again = make_half(
        folder="again", max_steps=7, loss_scale_growth_interval=2, resume=str(trainer.run.path)
    )
    again.train()
    assert again.loss_scale == 2 * trainer.loss_scale


def test_the_scale_has_a_largest_value(make_half):
    trainer = make_half(loss_scale_growth_interval=1, max_steps=3, loss_scale_init=2**23)
    trainer.train()
    assert trainer.loss_scale == LARGEST_SCALE


def test_a_fixed_scale_stays(make_half, same_bits):
    fixed = make_half(folder="fixed", loss_scale=1024, loss_scale_growth_interval=1)
    dynamic = make_half(folder="dynamic")
    fixed.train()
    dynamic.train()
    assert fixed.loss_scale == 1024
    assert same_bits(fixed, dynamic)


def test_a_fixed_scale_that_overflows_is_an_error(make_half):
    trainer = make_half(0.0, loss_scale=1024, on_nonfinite="stop")
    x = np.arange(48).reshape(3, 16) % VOCAB
    with pytest.raises(NonFiniteError, match=r"norm inf; .*Lower training.loss_scale = 1024"):
        trainer.train_step(x, x)
    assert (trainer.current_step, trainer.skipped_steps) == (0, 0)


def test_gradients_that_overflow_at_any_scale_are_an_error(make_half):
    trainer = make_half(0.0)
    before = trainer.model.parameters.data.copy()
    with (
        pytest.raises(NonFiniteError, match=r"norm inf; .*; the 3 steps in a row .*bf16"),
        pytest.warns(RuntimeWarning, match=r"^step 1: .*; not applied, [12] in a row"),
    ):
        trainer.train()
    assert trainer.skipped_steps == 16 + 2
    assert np.array_equal(before, trainer.model.parameters.data)
    assert json.loads((trainer.run.path / "summary.json").read_text())["status"] == "failed"


def test_a_loss_that_is_not_finite_is_no_matter_of_the_scale(make_half):
    trainer = make_half(on_nonfinite="stop")
    trainer.model.parameters["final_norm.weight"].data[0] = np.nan
    x = np.arange(48).reshape(3, 16) % VOCAB
    with pytest.raises(NonFiniteError, match=r"^step 1: the loss is nan .*model itself"):
        trainer.train_step(x, x)
    assert trainer.loss_scale == 65536


def test_resumed_equals_uninterrupted_with_skips_before_and_after(make_half, same_bits):
    config = {"max_steps": 12, "loss_scale_init": 2**24, "loss_scale_growth_interval": 3}
    whole = make_half(300.0, folder="whole", save_every=5, **config)
    whole.train()
    half = whole.run.checkpoints / "checkpoint-5"
    saved = json.loads((half / "trainer_state.json").read_text())
    assert 0 < saved["skipped_steps"] < whole.skipped_steps
    resumed = make_half(300.0, folder="resumed", resume=str(half), **config)
    assert resumed.loss_scale == saved["loss_scaling"]["scale"]
    resumed.train()
    assert same_bits(whole, resumed)
    assert resumed.loss_scale == whole.loss_scale
    assert resumed.scaler.good_updates == whole.scaler.good_updates
    assert resumed.skipped_steps == whole.skipped_steps
    assert resumed.state.tokens_seen == whole.state.tokens_seen


def test_a_scale_that_cannot_be_read_changes_nothing(make_half):
    trainer = make_half()
    trainer.train()
    path = trainer.run.checkpoints / "checkpoint-6" / "trainer_state.json"
    saved = json.loads(path.read_text())
    path.write_text(json.dumps(saved | {"loss_scaling": {"scale": "large"}}))
    reseal(path.parent)
    other = make_half(folder="other")
    before = other.model.parameters.data.copy()
    with pytest.raises(CheckpointError, match=r"trainer_state.json: not the state of a trainer"):
        other.load_checkpoint(trainer.run.path)
    assert np.array_equal(before, other.model.parameters.data)


def test_another_precision_is_another_condition(make_half, make_trainer):
    trainer = make_half()
    trainer.train()
    with pytest.warns(RuntimeWarning, match="precision: fp16 then, fp32 now"):
        other = make_trainer(folder="other", resume=str(trainer.run.path))
    assert other.loss_scale == 1.0


class Norms(Monitor):
    """Adds up what it sees."""

    wants = frozenset({"gradients"})
    squares = 0.0

    def observe(self, site, array):
        self.squares += float(np.sum(np.square(array, dtype=np.float64)))

    def metrics(self):
        return {}


def test_monitors_see_gradients_without_the_scale_and_change_no_bit(make_half, same_bits):
    monitor = Norms()
    seen = make_half(folder="seen", max_steps=1, max_grad_norm=0.05, parts={"monitors": [monitor]})
    plain = make_half(folder="plain", max_steps=1, max_grad_norm=0.05)
    seen.train()
    plain.train()
    assert math.sqrt(monitor.squares) == pytest.approx(seen.compute_grad_norm(), rel=1e-9)
    assert same_bits(seen, plain)


def own_loop(trainer, max_norm, clip=True):
    for number, (x, y) in enumerate(trainer.dataset, start=1):
        logits, cache = trainer.model.forward(x, train=True)
        trainer.loss_fn.forward(logits, y)
        trainer.backward(trainer.loss_fn.backward(), cache)
        if clip:
            norm = trainer.compute_grad_norm()
            assert trainer.clip_gradients(max_norm) == norm or math.isnan(norm)
        trainer.optimizer.step()
        trainer.scheduler.step(number)
        trainer.optimizer.zero_grad()
        if number == trainer.max_steps:
            break


@pytest.mark.parametrize("max_norm", [0.05, 0.0])
def test_a_loop_of_your_own_has_the_same_bits_with_a_scale(make_half, make_trainer, max_norm):
    plain, scaled = make_trainer(folder="plain"), make_half(folder="scaled")
    bare = make_half(folder="bare")
    own_loop(plain, max_norm)
    own_loop(scaled, max_norm)
    assert np.array_equal(plain.model.parameters.data, scaled.model.parameters.data)
    if max_norm == 0.0:  # without a call of clip_gradients, the scale is taken out, too
        own_loop(bare, 0.0, clip=False)
        assert np.array_equal(plain.model.parameters.data, bare.model.parameters.data)


@pytest.mark.parametrize("clip", [True, False])
def test_a_loop_of_your_own_skips_an_overflow(make_half, clip):
    trainer = make_half(0.0, max_steps=2)
    before = trainer.model.parameters.data.copy()
    own_loop(trainer, 1.0, clip=clip)
    assert np.array_equal(before, trainer.model.parameters.data)
    assert trainer.model.parameters.updates == 0
    assert trainer.loss_scale == 65536 / 4


def test_gradients_that_no_scaled_pass_made_are_taken_as_they_are(make_half):
    trainer = make_half()
    parameters = trainer.model.parameters
    trainer.zero_gradients()
    parameters.grad[0] = 3.0
    assert trainer.compute_grad_norm() == 3.0
    scaler = LossScaler(parameters, 8.0, 10)
    assert scaler.admit()
    assert scaler.begin() == scaler.current == 8.0
    scaler.scale = 16.0
    assert scaler.begin() == 8.0  # one scale until zero_grad
    parameters.zero_grad()
    assert (scaler.current, scaler.begin()) == (1.0, 16.0)


def test_other_precisions_have_no_scale(make_trainer):
    sink = Lines()
    trainer = make_trainer(parts={"model": Half(), "sinks": [sink]}, precision="bf16")
    trainer.train()
    assert trainer.loss_scale == 1.0
    assert "train/loss_scale" not in sink.lines[0][1]


def test_a_loop_of_ones_own_is_told_whether_a_step_was_made(make_half):
    trainer = make_half(1.0, loss_scale_init=2**24, parts={"optimizer": "sgd"})
    x = np.arange(48).reshape(3, 16) % VOCAB

    def step():
        logits, cache = trainer.model.forward(x, train=True)
        trainer.loss_fn.forward(logits, x)
        trainer.backward(trainer.loss_fn.backward(), cache)
        made = trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        return made

    before = trainer.model.parameters.data.copy()
    assert not step()
    assert np.array_equal(trainer.model.parameters.data, before)
    assert trainer.loss_scale == 2**23
    trainer.model.limit = math.inf
    assert step()
    assert not np.array_equal(trainer.model.parameters.data, before)

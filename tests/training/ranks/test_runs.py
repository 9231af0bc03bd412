"""Runs on several ranks: every number of one rank's run, and its files.

Updated weights come back as late as they can here, and NaN is in their place until then.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings

import numpy as np
import pytest
from thread_ranks import run_ranks

from tisslm import TokenDataset, Trainer, TrainingConfig, Transformer, TransformerConfig
from tisslm.config import AdapterConfig, EmaConfig
from tisslm.contracts import Loss, PassObserver
from tisslm.errors import ConfigError, ShapeError
from tisslm.models.tuning.tuning import Tuning
from tisslm.optim.losses import CrossEntropy
from tisslm.optim.optimizers import SGD
from tisslm.training.interruption import Leave
from tisslm.training.ranks import layout
from tisslm.training.ranks.communicators.local import LocalCommunicator
from tisslm.workflows.dry_run import dry_run
from tisslm.workflows.lr_range.sweep import range_test

pytestmark = pytest.mark.usefixtures("late_weights")

SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 32, "seq_len": 16, "vocab_size": 23}
STEPS, PARTS = 7, 8
#: 19 micro-batches of two rows, the last of one: an epoch ends with an update of three.
WINDOWS = 37


def tokens(windows: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, SHAPE["vocab_size"], windows * SHAPE["seq_len"] + 1, dtype=np.uint16)


def make(communicator, directory, **settings):
    """Build the trainer of a rank."""
    shape, tuning = settings.pop("shape", SHAPE), settings.pop("tuning", None)
    model = Transformer(TransformerConfig(**shape, dropout=0.1), seed=5, tuning=tuning)
    config = {
        "max_steps": STEPS,
        "batch_size": 2,
        "global_batch_size": 16,
        "reduction_parts": PARTS,
        "learning_rate": 1e-2,
        "validation_frequency": 3,
        "save_every": 3,
        "keep_checkpoints": 0,
        "output_dir": str(directory),
        "threads": 1,
    }
    return Trainer(
        model,
        settings.pop("optimizer", "adamw"),
        dataset=TokenDataset(tokens(WINDOWS, 1), 16, vocab_size=SHAPE["vocab_size"]),
        val_dataset=TokenDataset(tokens(9, 2), 16, vocab_size=SHAPE["vocab_size"]),
        sinks=["jsonl"],
        monitors=settings.pop("monitors", ()),
        communicator=communicator,
        ema=settings.pop("ema", None),
        config=TrainingConfig(**{**config, **settings}),
    )


def train(communicator, directory, **settings):
    """Train to the end; return what has to be the same for any number of ranks."""
    with warnings.catch_warnings():
        warnings.simplefilter("error" if communicator.size == 1 else "ignore")
        trainer = make(communicator, directory, **settings)
        trainer.train()
    return (
        hashlib.sha256(trainer.model.parameters.data.tobytes()).hexdigest(),
        list(trainer.loss_history),
        trainer.state.evaluation,
        trainer.state.tokens_seen,
        trainer.loss_scale,
    )


def files(directory):
    """Return names of all files, and the contents of those that have no times in them."""
    found = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not path.is_symlink():
            name = str(path.relative_to(directory))
            has_times = path.suffix in (".json", ".jsonl", ".toml", ".pid") or "lock" in name
            found[name] = b"" if has_times else path.read_bytes()
    return found


def numbers(directory):
    """Return the lines of metrics without what the machine's speed makes of them."""
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    kept = ("train/loss", "train/grad_norm", "eval/loss", "eval/accuracy", "train/learning_rate")
    return [{k: v for k, v in line.items() if k in (*kept, "step")} for line in lines]


@pytest.fixture(scope="module", params=["fp32", "bf16", "fp16"])
def alone(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("alone") / "run"
    return request.param, train(LocalCommunicator(), directory, precision=request.param), directory


@pytest.mark.parametrize("size", [2, 3, 5, 8])
def test_a_run_on_several_ranks_is_the_run_on_one(alone, size, tmp_path):
    precision, expected, directory = alone
    run = tmp_path / "run"
    found = run_ranks(size, lambda rank: train(rank, run, precision=precision))
    assert found == [expected] * size
    assert files(run) == files(directory)
    assert numbers(run) == numbers(directory)


EVERYTHING = {"window": 5, "layer_types": ["full_attention", "sliding_attention"], "logit_cap": 9.0}


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ({"family": "llama", "n_kv_head": 1}, {"precision": "bf16"}),
        ({"family": "qwen3", "tie_embeddings": True, **EVERYTHING}, {}),
        ({"family": "gpt_neox", "qk_norm": "all"}, {"activation_checkpointing": "every=2"}),
    ],
    ids=lambda given: given.get("family"),
)
def test_every_family_on_several_ranks_is_the_one_on_one(tmp_path, monkeypatch, shape, settings):
    monkeypatch.setattr(layout, "BUCKET_BYTES", 2048 * 4)  # many parts go and come by themselves
    settings = {"shape": {**SHAPE, **shape}, "max_steps": 3, **settings}
    expected = train(LocalCommunicator(), tmp_path / "alone", **settings)
    assert run_ranks(3, lambda rank: train(rank, tmp_path / "run", **settings)) == [expected] * 3
    assert files(tmp_path / "run") == files(tmp_path / "alone")


@pytest.mark.parametrize(("first", "second"), [(2, 3), (3, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_ranks(tmp_path, first, second):
    expected = train(LocalCommunicator(), tmp_path / "parts")
    run_ranks(first, lambda rank: train(rank, tmp_path / "begun"))
    for number in (6, 7):
        shutil.rmtree(tmp_path / "begun" / "checkpoints" / f"checkpoint-{number}")
    found = run_ranks(
        second,
        lambda rank: train(rank, tmp_path / "begun", resume="auto", reduction_parts=None),
    )
    assert found == [expected] * second


def test_parts_are_as_many_as_ranks_and_stay_so_later(tmp_path):
    found = run_ranks(2, lambda rank: train(rank, tmp_path / "two", reduction_parts=None))[0]
    assert found == train(LocalCommunicator(), tmp_path / "one", reduction_parts=2)
    assert found[0] != train(LocalCommunicator(), tmp_path / "whole", reduction_parts=None)[0]
    shutil.rmtree(tmp_path / "two" / "checkpoints" / "checkpoint-7")
    again = run_ranks(
        3, lambda rank: train(rank, tmp_path / "two", resume="auto", reduction_parts=None)
    )
    assert again == [found] * 3


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop", "lion"])
def test_every_optimizer_updates_its_shard(optimizer, tmp_path):
    expected = train(LocalCommunicator(), tmp_path / "alone", optimizer=optimizer)
    found = run_ranks(2, lambda rank: train(rank, tmp_path / "run", optimizer=optimizer))
    assert found == [expected] * 2


def test_monitors_see_the_whole_gradient(tmp_path):
    settings = {
        "monitors": ["gradient_norms", "update_norms", "weight_distribution"],
        "monitor_steps": 2,
    }
    train(LocalCommunicator(), tmp_path / "alone", **settings)
    run_ranks(3, lambda rank: train(rank, tmp_path / "run", **settings))

    def seen(directory):
        lines = (directory / "metrics.jsonl").read_text().splitlines()
        found = [json.loads(line) for line in lines]
        return [{k: v for k, v in line.items() if ".weight" in k} for line in found]

    assert seen(tmp_path / "run") == seen(tmp_path / "alone")
    assert len(seen(tmp_path / "run")[1]) > 20


def test_a_background_save_writes_the_same(tmp_path):
    train(LocalCommunicator(), tmp_path / "alone")
    run_ranks(3, lambda rank: train(rank, tmp_path / "run", async_save=True))
    assert files(tmp_path / "run") == files(tmp_path / "alone")


@pytest.mark.parametrize("elementwise", [True, False])
def test_averaged_weights_are_those_of_one_rank(tmp_path, monkeypatch, elementwise):
    monkeypatch.setattr(layout, "BUCKET_BYTES", 2048 * 4)
    monkeypatch.setattr(SGD, "elementwise", elementwise)
    given = {"optimizer": ("sgd", {"momentum": 0.9}), "ema": EmaConfig(decay=0.6)}
    expected = train(LocalCommunicator(), tmp_path / "alone", **given)
    assert expected[2]["eval/ema_loss"] != expected[2]["eval/loss"]
    assert run_ranks(3, lambda rank: train(rank, tmp_path / "run", **given)) == [expected] * 3
    assert files(tmp_path / "run") == files(tmp_path / "alone")
    assert "checkpoints/checkpoint-6/ema.safetensors" in files(tmp_path / "run")
    for number in (6, 7):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / f"checkpoint-{number}")
    again = {**given, "resume": "auto", "async_save": True}
    assert run_ranks(2, lambda rank: train(rank, tmp_path / "run", **again)) == [expected] * 2
    assert files(tmp_path / "run") == files(tmp_path / "alone")


def test_an_optimizer_of_the_whole_is_refused(tmp_path):
    from tisslm.optim.optimizers.adamw import AdamW

    def build(rank):
        model = Transformer(TransformerConfig(**SHAPE))
        return Trainer(model, AdamW(model.parameters, 1e-3), communicator=rank, sinks=())

    with pytest.raises(ConfigError, match="optimizer: 2 ranks share out the parameters"):
        run_ranks(2, build)


@pytest.mark.parametrize("ranks", [2, 3])
def test_an_optimizer_that_needs_whole_parameters_has_them(tmp_path, monkeypatch, ranks):
    """Each rank has some parameters, with their shapes; cuts are within blocks of the norm."""
    seen = []

    def update(self, grad_scale):
        seen.extend((p.name, p.shape) for p in self.parameters)
        plain(self, grad_scale)

    plain = SGD.update
    given = {"optimizer": ("sgd", {"momentum": 0.9}), "max_grad_norm": 0.1}
    alone = train(LocalCommunicator(), tmp_path / "alone", **given)
    monkeypatch.setattr(SGD, "elementwise", False)
    monkeypatch.setattr(SGD, "update", update)
    shared = run_ranks(ranks, lambda rank: train(rank, tmp_path / "shared", **given))
    assert shared == [alone] * ranks
    model = Transformer(TransformerConfig(**SHAPE))
    assert len(seen) == STEPS * len(model.parameters)
    assert set(seen) == {(p.name, p.shape) for p in model.parameters}
    files = [tmp_path / name / "checkpoints" / "checkpoint-7" for name in ("alone", "shared")]
    first, second = (hashlib.sha256((f / "optimizer.safetensors").read_bytes()) for f in files)
    assert first.digest() == second.digest()


def test_more_parts_than_micro_batches_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"training.reduction_parts: expected at most the 8"):
        make(LocalCommunicator(), tmp_path, reduction_parts=9)


def test_fewer_micro_batches_than_ranks_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"at least a micro-batch of batch_size = 2 rows for"):
        run_ranks(3, lambda rank: make(rank, tmp_path, global_batch_size=4, reduction_parts=None))


def test_gradients_go_out_while_the_last_backward_pass_goes_on(tmp_path, monkeypatch):
    """Buckets are ready before the embedding's backward begins, and the trace has their track."""
    monkeypatch.setattr(layout, "BUCKET_BYTES", 16384 * 4)
    shape = {**SHAPE, "n_embd": 64}
    seen = [[], []]

    class Places(PassObserver):
        def __init__(self, events):
            self.events = events

        def enter(self, place, direction):
            if direction == "backward":
                self.events.append(place)

    def go(rank):
        trainer = make(
            rank,
            tmp_path / "run",
            profile_steps=1,
            max_steps=5,
            validation_frequency=0,
            save_every=0,
            reduction_parts=None,
            shape=shape,
        )
        events, exchange = seen[rank.rank], trainer.session.parts.reduction._exchange
        send = exchange.send
        exchange.send = lambda bucket: (events.append("bucket"), send(bucket))
        trainer.model.observers = (Places(events),)
        trainer.train()

    run_ranks(2, go)
    trace = json.loads((tmp_path / "run" / "trace.json").read_text())["traceEvents"]
    names = {e["tid"]: e["args"]["name"] for e in trace if e["name"] == "thread_name"}
    for what in ("gradients", "weights"):
        buckets = [e for e in trace if e["name"] == what]
        assert {names[e["tid"]] for e in buckets} == {"exchange"}
        assert len(buckets) > 3
    for events in seen:  # of each rank's last update
        last = len(events) - 1 - events[::-1].index("embedding")
        assert "bucket" in events[last - 3 : last]


class BreaksAtARow(Loss):
    """Cross-entropy, but NaN where a target is the id that one row alone has."""

    def __init__(self):
        self._loss = CrossEntropy()

    def tile(self, logits_NV, targets_N, weights_N, *, gradient=True):
        losses_N = self._loss.tile(logits_NV, targets_N, weights_N, gradient=gradient)
        if (targets_N == 22).any():
            losses_N[:] = np.nan
        return losses_N


def broken(communicator, directory):
    """Make the trainer of a rank, some of whose rows make the loss NaN."""
    ids = tokens(WINDOWS, 1) % 22
    ids[13 * 16 + 3] = 22
    model = Transformer(TransformerConfig(**SHAPE), seed=5)
    config = TrainingConfig(
        max_steps=5,
        batch_size=2,
        global_batch_size=16,
        reduction_parts=4,
        save_every=0,
        validation_frequency=0,
        output_dir=str(directory),
        threads=1,
    )
    dataset = TokenDataset(ids, 16, vocab_size=23)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(
            model, "sgd", BreaksAtARow(), dataset=dataset, sinks=(), communicator=communicator,
            config=config,
        )  # fmt: skip
        trainer.train()
    return trainer.state.step, trainer.skipped_steps, trainer.model.parameters.data.tobytes()


@pytest.mark.parametrize("size", [2, 4])
def test_a_step_that_fails_on_one_rank_is_refused_by_all_and_noted_once(tmp_path, size):
    expected = broken(LocalCommunicator(), tmp_path / "alone")
    found = run_ranks(size, lambda rank: broken(rank, tmp_path / "run"))
    assert expected[1] > 0
    assert found == [expected] * size
    noted = sorted(path.name for path in (tmp_path / "alone").glob("nonfinite-*"))
    assert sorted(path.name for path in (tmp_path / "run").glob("nonfinite-*")) == noted
    for name in noted:
        alone, several = (json.loads((tmp_path / at / name).read_text()) for at in ("alone", "run"))
        assert several == alone


def test_the_best_is_kept_and_gone_back_to_on_all_ranks(tmp_path):
    settings = {
        "keep_best": 1,
        "restore_best": True,
        "early_stopping_patience": 2,
        "validation_frequency": 1,
        "learning_rate": 0.3,
        "max_steps": 12,
        "save_every": 1,
    }
    expected = train(LocalCommunicator(), tmp_path / "alone", **settings)
    assert len(expected[1]) < 12
    found = run_ranks(3, lambda rank: train(rank, tmp_path / "run", **settings))
    assert found == [expected] * 3
    assert files(tmp_path / "run") == files(tmp_path / "alone")


@pytest.mark.parametrize("precision", ["fp16"])
def test_overflows_lower_the_scale_on_all_ranks(tmp_path, precision):
    settings = {"precision": precision, "loss_scale_init": 2**24, "learning_rate": 1e-3}
    expected = train(LocalCommunicator(), tmp_path / "alone", **settings)
    assert expected[4] < 2**24
    found = run_ranks(3, lambda rank: train(rank, tmp_path / "run", **settings))
    assert found == [expected] * 3


def test_a_custom_loop_gives_each_rank_its_rows(tmp_path):
    """``train_step`` takes the rows of the rank's share, and refuses any others on all ranks."""
    expected = make(LocalCommunicator(), tmp_path / "alone")
    rows = next(expected.dataset.batches(16, 3))
    loss = expected.train_step(rows.x, rows.y)

    def step(rank, first=0):
        trainer = make(rank, tmp_path / "run")
        own = trainer.session.parts.reduction.share.own_rows
        part = rows.part(own.start + first, own.stop)
        return trainer.train_step(part.x, part.y), trainer.model.parameters.data.copy()

    for found, data in run_ranks(3, step):
        assert found == loss
        assert np.array_equal(data, expected.model.parameters.data)
    message = r"train_step: expected 4 of the 13 rows of this update on rank 0 of 3, got 3"
    with pytest.raises(ShapeError, match=message):
        run_ranks(3, lambda rank: step(rank, 1))


def test_a_backward_pass_of_ones_own_is_refused(tmp_path):
    def go(rank):
        trainer = make(rank, tmp_path / "run")
        trainer.backward(np.zeros((2, 16, 23), np.float32), None)

    with pytest.raises(ConfigError, match=r"trainer\.backward: expected one process, got 2 ranks"):
        run_ranks(2, go)


def test_what_a_dropped_step_has_added_is_forgotten(tmp_path):
    """A run left within its third step, behind two of its parts, goes on in the same process."""
    expected = train(LocalCommunicator(), tmp_path / "whole")
    trainer, calls = make(LocalCommunicator(), tmp_path / "run"), []
    step = trainer.session.step

    def leave():
        calls.append(1)
        if len(calls) == 2 * PARTS + 3:
            raise Leave("asked to")

    step._gradients._check = leave
    trainer.train()
    assert (trainer.stopped, trainer.current_step) == ("asked to", 2)
    trainer.train()
    assert hashlib.sha256(trainer.model.parameters.data.tobytes()).hexdigest() == expected[0]


def test_a_dry_run_is_that_of_one_rank(tmp_path):
    expected = dry_run(make(LocalCommunicator(), tmp_path / "run"))
    for found in run_ranks(2, lambda rank: dry_run(make(rank, tmp_path / "run"))):
        assert (found.losses, found.tokens, found.validation_loss, found.checkpoint_bytes) == (
            expected.losses,
            expected.tokens,
            expected.validation_loss,
            expected.checkpoint_bytes,
        )


def test_a_range_test_is_made_by_one_process(tmp_path):
    with pytest.raises(ConfigError, match="range test: expected one process, got 2 ranks; start"):
        run_ranks(2, lambda rank: range_test(make(rank, tmp_path / "run")))


@pytest.mark.parametrize(
    "tuning",
    [
        Tuning(("embedding.*", "blocks.0.*", "*.mlp.down.*"), "bf16"),
        Tuning(adapter=AdapterConfig(rank=2, targets=["q", "o", "up"], dropout=0.2)),
    ],
    ids=["frozen", "adapters"],
)
def test_a_part_of_a_model_is_trained_as_by_one_rank(tmp_path, tuning):
    one = train(LocalCommunicator(), tmp_path / "1", tuning=tuning)
    for found in run_ranks(3, lambda c: train(c, tmp_path / "3", tuning=tuning)):
        assert found == one
    assert files(tmp_path / "3") == files(tmp_path / "1")

"""Monitors in a run: what they are shown, at the same bits, in every way to run a pass."""

from __future__ import annotations

import math
from contextlib import nullcontext

import numpy as np
import pytest

from tisslm.contracts import Histogram, Monitor, Sink
from tisslm.tracking.monitoring import KINDS
from tisslm.tracking.pass_arrays import planned_room

ALL = (
    "activation_stats",
    "attention_entropy",
    "gradient_norms",
    "update_norms",
    "weight_distribution",
)
PLACES = [f"blocks.{i}.{part}" for i in range(2) for part in ("attention", "mlp")]


class Keeping(Sink):
    """Keeps rows of every kind."""

    accepts = frozenset({float, Histogram})

    def __init__(self):
        self.rows = {}

    def open(self, run):
        pass

    def write(self, step, metrics):
        self.rows.setdefault(step, {}).update(metrics)


class Copies(Monitor):
    """Keeps copies of what it is shown."""

    wants = KINDS

    def __init__(self):
        self.kind, self.seen, self.steps = "", {}, []

    def turn_to(self, kind):
        self.kind = kind

    def observe(self, site, array):
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
        self.seen.setdefault((self.kind, site), []).append(array.copy())

    def metrics(self):
        self.steps.append(self.seen)
        self.seen = {}
        return {}


WAYS = [
    {"precision": precision, "activation_checkpointing": checkpointing}
    for precision in ("fp32", "bf16", "fp16")
    for checkpointing in ("none", "full")
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(way.values()))
def test_a_run_with_all_monitors_has_the_bits_of_one_with_none(make_trainer, same_bits, way):
    config = {"max_steps": 4, "gradient_accumulation_steps": 2, "max_grad_norm": 0.05, **way}
    sink = Keeping()
    seen = make_trainer(
        folder="seen",
        parts={"monitors": [*ALL, Copies()], "sinks": [sink]},
        monitor_steps=2,
        **config,
    )
    plain = make_trainer(folder="plain", **config)
    seen.train()
    plain.train()
    assert same_bits(seen, plain)
    assert len(seen.monitors) == len(ALL) + 1  # none was switched off
    looked = {step for step, row in sink.rows.items() if any("activation/" in n for n in row)}
    assert looked == {2, 4}
    assert all(math.isfinite(v) for v in sink.rows[4].values() if isinstance(v, float))


def test_names_of_everything_that_is_found(make_trainer):
    sink = Keeping()
    trainer = make_trainer(max_steps=1, parts={"monitors": ALL, "sinks": [sink]})
    trainer.train()
    row, parameters = sink.rows[1], [p.name for p in trainer.model.parameters]
    sites = ["embedding", *PLACES, "final_norm"]
    for i in range(2):
        sites += [f"blocks.{i}.attention.{name}" for name in ("q", "k", "v", "heads")]
        sites += [f"blocks.{i}.mlp.pre"]
    statistics = ("mean", "std", "absmax", "frac_zero", "frac_saturated")
    expected = {f"activation/{site}/{name}" for site in sites for name in statistics}
    for place in PLACES[::2]:
        expected |= {f"attention/{place}/entropy", f"attention/{place}/entropy_min"}
    for kind in ("grad_norm", "update_norm", "weight_norm", "weights"):
        expected |= {f"{kind}/{name}" for name in parameters}
    for name in ("p01", "p25", "p50", "p75", "p99"):
        expected |= {f"weight/{parameter}/{name}" for parameter in parameters}
    expected |= {f"monitor/{name}_ms" for name in (*ALL, "total")}
    found = {name for name in row if not name.startswith(("train/", "memory/", "update_ratio/"))}
    assert found == expected
    costs = [row[f"monitor/{name}_ms"] for name in ALL]
    assert 0.0 < sum(costs) <= row["monitor/total_ms"]
    assert {type(row[f"weights/{name}"]) for name in parameters} == {Histogram}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_what_is_shown_is_what_there_is(make_trainer, precision, monkeypatch):
    monkeypatch.setattr("tisslm.tracking.pass_arrays.PIECE", 200)  # several pieces of every site
    copies = Copies()
    trainer = make_trainer(
        max_steps=1,
        dropout=0.0,
        precision=precision,
        gradient_accumulation_steps=2,
        parts={"monitors": [copies], "optimizer": "sgd", "scheduler": "constant"},
    )
    x, y = next(trainer.dataset.batches(6, trainer.config.seed))
    before = {p.name: p.data.copy() for p in trainer.model.parameters}
    plain = make_trainer(folder="plain", dropout=0.0, precision=precision).model
    trainer.train_step(x, y)
    (seen,) = copies.steps
    for p in trainer.model.parameters:
        assert np.array_equal(seen["weights", p.name][0], p.data)
        assert np.array_equal(seen["updates", p.name][0], p.data - before[p.name])
        assert seen["gradients", p.name][0].shape == p.shape
    gradients = [seen["gradients", p.name][0] for p in plain.parameters]
    norms = [float(np.square(gradient, dtype=np.float64).sum()) for gradient in gradients]
    assert math.sqrt(sum(norms)) == pytest.approx(trainer.compute_grad_norm(), rel=1e-6)
    hidden = np.concatenate(seen["activations", "final_norm"])
    logits = hidden @ plain.parameters["embedding.token.weight"].data.T
    expected, _ = plain.forward(x)
    tolerance = {"fp32": 1e-5, "bf16": 2e-2, "fp16": 3e-3}[precision]
    assert np.abs(logits - expected.reshape(logits.shape)).max() < tolerance
    pre = seen["activations", "blocks.1.mlp.pre"]
    assert len(pre) > 2
    assert sum(map(len, pre)) == x.size
    entropy = np.concatenate(seen["attention", "blocks.0.attention.entropy"])
    assert entropy.shape == (6, 2, 16)
    assert (entropy[..., 0] == 0.0).all()
    assert (entropy <= np.log(np.arange(1, 17)) + 1e-5).all()


def test_queries_keys_and_values_are_told_apart(make_trainer):
    """With fewer key-value heads than heads, the three have two widths."""
    copies = Copies()
    trainer = make_trainer(max_steps=1, parts={"monitors": [copies]})
    trainer.train()
    seen = copies.steps[0]
    model, widths = trainer.model.config, {}
    for name in "qkv":
        pieces = seen["activations", f"blocks.0.attention.{name}"]
        assert all(piece.flags.c_contiguous for piece in pieces)
        widths[name] = pieces[0].shape[1]
    own = model.n_kv_head * model.head_dim
    assert widths == {"q": model.n_head * model.head_dim, "k": own, "v": own}


def test_entropy_is_that_within_documents(make_trainer, tokens):
    """A query whose document begins with it sees one key."""
    copies = Copies()
    trainer = make_trainer(max_steps=1, parts={"monitors": [copies]})
    x = tokens[: 3 * 16].astype(np.int64).reshape(3, 16)
    start = np.zeros((3, 16), np.int64)
    start[:, 5:9], start[:, 9:] = 5, 9
    trainer.train_step(x, (x + 1) % 17, start)
    (entropy,) = copies.steps[0]["attention", "blocks.1.attention.entropy"]
    assert (entropy[..., [0, 5, 9]] == 0.0).all()
    assert (entropy[..., [1, 6, 15]] > 0.0).all()


def test_entropy_is_that_of_all_keys_where_a_token_sees_later_ones(make_trainer, make_model):
    copies, model = Copies(), make_model(causal=False)
    model.sees_ahead = False  # it learns nothing of use, and is let in to be looked into
    trainer = make_trainer(max_steps=1, parts={"monitors": [copies], "model": model})
    x = np.full((3, 16), 5)  # one token, whose places alone differ
    trainer.model.parameters.data[...] *= 1e-3  # so that all keys count alike
    start = np.zeros((3, 16), np.int64)
    start[:, 5:] = 5
    trainer.train_step(x, x, start)
    (entropy,) = copies.steps[0]["attention", "blocks.0.attention.entropy"]
    expected = np.log(np.where(np.arange(16) < 5, 5, 11))
    assert np.abs(entropy - expected).max() < 1e-3


class Fails(Monitor):
    """Raises when it sees one kind of array."""

    def __init__(self, kind):
        self.kind = kind

    wants = frozenset({"weights"})

    def observe(self, site, array):
        raise KeyError(site)

    def metrics(self):
        return {}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_monitor_that_raises_is_named_and_does_not_end_the_run(make_trainer, same_bits, kind):
    failing = Fails(kind)
    failing.wants = frozenset({kind})
    trainer = make_trainer(monitor_steps=2, parts={"monitors": [failing, "gradient_norms"]})
    plain = make_trainer(folder="plain")
    with pytest.warns(RuntimeWarning, match="^monitor Fails is switched off: KeyError: "):
        trainer.train()
    plain.train()
    assert same_bits(trainer, plain)
    assert len(trainer.monitors) == 1
    assert trainer.model.observers == ()


def test_what_was_seen_of_a_refused_step_is_forgotten(make_trainer):
    """The step that is made instead is seen alone."""
    copies = Copies()
    trainer = make_trainer(max_steps=2, on_nonfinite="skip", parts={"monitors": [copies]})
    x, y = next(trainer.dataset.batches(3, trainer.config.seed))
    trainer.train_step(x, y)
    parameter = trainer.model.parameters["final_norm.weight"]
    before = parameter.data.copy()
    parameter.data[0] = np.nan
    with pytest.warns(RuntimeWarning, match="^step 2: the loss is nan"):
        trainer.train_step(x, y)
    parameter.data[...] = before
    trainer.train_step(x, y)
    refused, made = copies.steps
    assert ("weights", "final_norm.weight") not in refused
    assert len(made["activations", "embedding"]) == 1
    assert np.isfinite(made["activations", "final_norm"][0]).all()


def test_a_model_that_shows_no_passes_is_told(make_trainer, make_model, monkeypatch):
    model = make_model()
    monkeypatch.setattr(model, "observed", lambda observer: nullcontext(), raising=False)
    trainer = make_trainer(
        max_steps=2, monitor_steps=1, parts={"model": model, "monitors": ["activation_stats"]}
    )
    message = (
        "^monitor activation_stats is switched off: it wants activations, and Transformer shows "
        "none. A model shows its passes by tisslm.contracts.pass_observer$"
    )
    with pytest.warns(RuntimeWarning, match=message):
        trainer.train()


def test_log_gradients_adds_the_monitor_once(make_trainer):
    one = make_trainer(log_gradients=True)
    two = make_trainer(folder="two", log_gradients=True, parts={"monitors": ["gradient_norms"]})
    assert len(one.monitors) == len(two.monitors) == 1


# ------------------------------------------------------------------ memory


def test_the_plan_counts_what_monitors_want(make_model):
    model = make_model()
    data = model.parameters.data.nbytes
    assert planned_room((), model, 3, 16, "fp32") == {}
    found = planned_room(KINDS, model, 3, 16, "fp16")
    largest = max(p.data.nbytes for p in model.parameters)
    assert found == {
        "rows": 4 * 2**20,
        "entropy": 3 * 2 * 16 * 4,
        "updates": data,
        "gradients": largest,
    }
    assert "gradients" not in planned_room(KINDS, model, 3, 16, "fp32")


def test_no_look_takes_more_than_was_planned(make_trainer, monkeypatch):
    taken = []
    trainer = make_trainer(monitor_steps=1, precision="fp16", parts={"monitors": [*ALL, Copies()]})
    monkeypatch.setattr(
        "tisslm.tracking.pass_arrays.Room._block", lambda nbytes: taken.append(nbytes)
    )
    trainer.train()
    assert taken == []
    assert len(trainer.monitors) == len(ALL) + 1

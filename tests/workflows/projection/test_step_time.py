"""The model of a step on several nodes, against sums that are made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tisslm import TrainingConfig, Transformer, TransformerConfig
from tisslm.errors import ConfigError
from tisslm.training.ranks import layout
from tisslm.workflows.projection.inputs import Network, NodeTimes
from tisslm.workflows.projection.step_time import SMALL_CALLS, project

SHAPE = TransformerConfig(n_layer=4, n_head=2, n_embd=128, seq_len=16, vocab_size=512)
MODEL = Transformer.of_shapes(SHAPE)
NBYTES = MODEL.parameters.data.nbytes
TIMES = NodeTimes(3.0, 0.6, 0.2, 1e15)
FAST = Network("fast", 1e15, 0.0)


@pytest.fixture(autouse=True)
def _small_buckets(monkeypatch):
    """Cut the model into buckets of four blocks of 16384."""
    monkeypatch.setattr(layout, "BUCKET_BYTES", 4 * 16384 * 4)


def step(nodes, network=FAST, times=TIMES, jitter=0.0, **settings):
    config = TrainingConfig(batch_size=2, **settings)
    return project(MODEL, config, times, network, nodes, jitter=jitter)


def test_one_node_makes_its_passes_and_its_update():
    alone = step(1, gradient_accumulation_steps=5)
    assert (alone.rows, alone.seconds) == (10, pytest.approx(5 * 3.0 + 0.2))
    assert alone.efficiency(alone) == 1.0


def test_a_network_without_limits_costs_nothing_but_the_slowest_node():
    found = step(16, jitter=0.02)
    assert found.jitter == pytest.approx(3.0 * 0.02 * math.sqrt(2 * math.log(16)))
    assert found.exchange + found.weights + found.small == pytest.approx(0.0, abs=1e-6)
    assert found.update < 0.2 / 3
    assert step(16).seconds < step(1).seconds  # the update is shared out


BARE = NodeTimes(1e-9, 0.0, 0.2, 1e15)


def test_weights_come_back_at_the_bandwidth_where_no_pass_hides_them(monkeypatch):
    slow = Network("slow", NBYTES / 10, 0.0)
    assert step(2, slow, BARE).weights == pytest.approx(10.0 / 2, rel=0.05)
    hidden = step(2, slow).weights
    monkeypatch.setattr(Transformer, "asks_for_values", False)
    assert step(2, slow).weights == step(2, slow, BARE).weights > hidden


def test_what_a_pass_needs_later_comes_while_it_goes_on():
    """A forward pass takes 1 s, each of its four blocks 0.2 s; the weights take ``seconds``."""

    def waited(seconds):
        return step(2, Network("some", NBYTES / 2 / seconds, 0.0)).weights

    buckets = layout.buckets_of(MODEL.parameters, 2)[::-1]
    first = [p for p in MODEL.parameters if p.name.startswith(("embedding.", "blocks.0."))]
    at_once = sum(
        max(b - a for a, b in bucket.ranges)
        for bucket in buckets
        if any(p.offset < bucket.stop and bucket.start < p.offset + p.size for p in first)
    )
    share = at_once * 4 * 2 / NBYTES
    assert share < 0.6
    assert waited(0.1) == pytest.approx(0.1 * share, rel=1e-6)
    last_needed = 3 * 0.2  # the last block begins then
    assert waited(10.0) == pytest.approx(step(2, Network("some", NBYTES / 20, 0), BARE).weights
                                         - last_needed)  # fmt: skip


def test_every_message_has_its_price():
    found = step(5, Network("far", 1e15, 1e-3), BARE)
    buckets = len(layout.buckets_of(MODEL.parameters, 5))
    assert found.small == pytest.approx(SMALL_CALLS * 4 * 1e-3)
    assert found.weights == pytest.approx(buckets * 4 * 1e-3)


def test_gradients_hide_behind_the_last_backward_pass_but_for_the_last_bucket():
    buckets = layout.buckets_of(MODEL.parameters, 2)
    network = Network("middling", 2 * NBYTES, 0.0)  # 0.25 s for all, and the pass takes 2 s
    found = step(2, network)
    last = (
        max(max(b - a for a, b in bucket.ranges) for bucket in buckets[-1:]) * 4 / network.bandwidth
    )
    assert last <= found.exchange < 0.25
    bare = step(2, network, BARE)
    assert bare.exchange == pytest.approx(0.25, rel=0.1)  # nothing to hide behind


def test_what_a_core_adds_is_a_part_of_the_exchange():
    slow = NodeTimes(1e-9, 0.0, 0.0, NBYTES)
    assert step(2, FAST, slow).exchange == pytest.approx(1.0, rel=0.1)
    assert step(2, FAST, slow).adding == 0.0
    parts = step(2, FAST, slow, gradient_accumulation_steps=4, reduction_parts=8)
    assert parts.adding == pytest.approx(3.0)


def test_the_node_with_most_rows_counts():
    found = step(3, global_batch_size=20, reduction_parts=10)
    assert found.compute == pytest.approx(3.0 * 4)  # ten micro-batches: 3, 3 and 4
    alone = step(1, global_batch_size=20)
    assert found.efficiency(alone) == pytest.approx(alone.seconds / (3 * found.seconds))


def test_more_nodes_than_micro_batches_are_refused():
    with pytest.raises(ConfigError, match=r"each of 8 ranks, got 8"):
        step(8, global_batch_size=8)


def test_where_the_update_is_shared_out_already_more_nodes_are_less_efficient():
    alone, network = step(1), Network.ethernet(10, 25e-6)
    found = [step(n, network, jitter=0.02).efficiency(alone) for n in (4, 16, 64, 256)]
    assert all(np.diff(found) < 0)

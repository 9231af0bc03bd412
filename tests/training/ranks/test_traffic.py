"""What ranks send each other, foretold and counted."""

from __future__ import annotations

import numpy as np
import pytest
from thread_ranks import run_ranks

from tisslm import Trainer, TrainingConfig, Transformer, TransformerConfig
from tisslm.training.ranks import layout
from tisslm.training.ranks.layout import buckets_of, cut_evenly
from tisslm.training.ranks.share import Share
from tisslm.training.ranks.traffic import Flow, gradient_flows, most_traffic, weight_flows

SHAPE = TransformerConfig(n_layer=2, n_head=2, n_embd=64, seq_len=16, vocab_size=53)


@pytest.fixture(autouse=True)
def _small_buckets(monkeypatch):
    monkeypatch.setattr(layout, "BUCKET_BYTES", 3 * 16384 * 4)


def test_what_is_sent_to_others_is_what_they_receive():
    bucket = cut_evenly(0, 10 * 16384 + 5, 3)
    for flows in (gradient_flows(bucket, [1, 2, 2]), weight_flows(bucket)):
        assert sum(flow.sent for flow in flows) == sum(flow.received for flow in flows)


def test_an_even_cut_costs_each_rank_all_but_its_own_part():
    bucket = cut_evenly(0, 8 * 16384, 4)
    expected = [Flow(6 * 16384, 6 * 16384)] * 4
    assert gradient_flows(bucket, [1] * 4) == expected == weight_flows(bucket)


@pytest.mark.parametrize(("size", "parts"), [(2, 2), (3, 3), (3, 8), (5, 8)])
def test_the_most_is_what_ranks_send_in_a_step(size, parts, tmp_path):
    def train(communicator):
        channels, make_channel = [], communicator.channel
        communicator.channel = lambda: channels.append(make_channel()) or channels[0]
        config = TrainingConfig(
            max_steps=2,
            batch_size=1,
            global_batch_size=16,
            reduction_parts=parts,
            validation_frequency=0,
            output_dir=str(tmp_path / "run"),
            threads=1,
        )
        trainer = Trainer(
            Transformer(SHAPE, seed=5), config=config, communicator=communicator, sinks=()
        )
        rows = Share(16, 1, parts, communicator.rank, size).own_rows
        x_BT = np.random.default_rng(1).integers(0, 53, (16, 17))[rows.start : rows.stop]
        channel, returning = channels[0], trainer.session.parts.reduction._returning
        before, start = [], returning.start
        returning.start = lambda: (before.append(channel.elements), start())
        trainer.train_step(x_BT[:, :-1], x_BT[:, 1:])
        return before[0], channel.elements - before[0]

    model = Transformer.of_shapes(SHAPE)
    share = Share(16, 1, parts, 0, size)
    expected = most_traffic(buckets_of(model.parameters, size), share, 1)
    found = run_ranks(size, train)
    assert max(gradients for gradients, _ in found) == expected.gradients.sent
    assert max(weights for _, weights in found) == expected.weights.sent

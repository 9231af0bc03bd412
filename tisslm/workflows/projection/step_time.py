r"""The time of a step on p nodes, each of which is a rank: computed, not measured.

    T(p) = k t (1 + s sqrt(2 ln p)) + E(p) + U u(p) + W(p) + c a (p - 1) + A(p)

    k t    the micro-batches of the node that has most, times forward and backward of one
    s      standard deviation of a node's time, as a share of it: every step waits for the slowest
           of p, which normal deviations make later by at most s sqrt(2 ln p) in the mean [1]
    E      what of the exchange of gradients outlasts the last backward pass
    U u    an update of all parameters, times the share of them that the largest rank updates
    W      for how long the next forward pass waits for parameters on their way back
    c a    so many calls that carry a few bytes
    A      additions of whole gradients, where a node has several leaves

A bucket that a rank sends to p - 1 others costs a (p - 1) seconds for the messages and its bytes at
the network's bandwidth: the model of Hockney [2], with one price for each message. Bytes are those
that the layout of the ranges gives, of the rank that has most in each bucket.

E follows the buckets in their order. One is ready when the backward pass, two thirds of t, has left
the block of its first parameter; it is sent, and added up on one core, when it is ready and the one
before it is done. Whatever is then still under way at the end of the pass is E. What a tied
output matrix gets is final only at that end, so its buckets hide behind nothing.

W follows them the other way round. They come one after the other from the end of the update on, and
the forward pass of the next micro-batch, a third of t, waits where it comes to the block of a
bucket's first parameter: what comes before the blocks is needed at once, and hides behind nothing.
A model that does not ask for its values in each pass (``Network.asks_for_values``) waits for all.

Not in it: that all nodes share a switch which has less than their bandwidth together, that the
thread which sends takes a core from the kernels, evaluations, checkpoints, and reading data.

References
----------
[1] S. Boucheron, G. Lugosi, P. Massart, "Concentration Inequalities", 2013, section 2.5.
[2] R. W. Hockney, "The communication challenge for MPP: Intel Paragon and Meiko CS-2", Parallel
    Computing 20 (1994), 389-398.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tisslm import contracts
from tisslm.config import TrainingConfig
from tisslm.training.ranks.layout import Bucket, buckets_of
from tisslm.training.ranks.share import for_ranks, share_of
from tisslm.training.ranks.traffic import Flow, gradient_flows, sums_of_ranks, weight_flows
from tisslm.workflows.projection.inputs import Network, NodeTimes

__all__ = ["SMALL_CALLS", "Projected", "project"]

#: Calls of a step that carry a few bytes: counts of targets, losses, the norm, who wants to leave.
SMALL_CALLS = 4

#: Share of a pass that is its backward: two of the three products of each matrix.
BACKWARD = 2 / 3


@dataclass(frozen=True)
class Projected:
    """What a step is projected to take on some nodes, in seconds.

    Attributes
    ----------
    nodes : int
    rows : int
        Of an update, of all nodes.
    compute : float
        Forward and backward of the node that has most rows.
    jitter : float
        By how much the slowest node is later.
    exchange : float
        What of the exchange of gradients is not hidden.
    weights : float
        What of the parameters' way back is not hidden.
    update, small, adding : float
    """

    nodes: int
    rows: int
    compute: float
    jitter: float = 0.0
    exchange: float = 0.0
    weights: float = 0.0
    update: float = 0.0
    small: float = 0.0
    adding: float = 0.0

    @property
    def seconds(self) -> float:
        """The whole step."""
        network = self.exchange + self.weights + self.small
        return self.compute + self.jitter + network + self.update + self.adding

    def efficiency(self, alone: Projected) -> float:
        """Return rows per second, over those of as many nodes that train each by itself."""
        return self.rows / self.seconds / (self.nodes * alone.rows / alone.seconds)


def project(
    model: contracts.Network,
    config: TrainingConfig,
    times: NodeTimes,
    network: Network,
    nodes: int,
    *,
    jitter: float,
) -> Projected:
    """Return the time of a step on so many nodes.

    Parameters
    ----------
    model : Network
        May be one of shapes.
    config : TrainingConfig
        Its rows are a node's; ``global_batch_size`` is that of all nodes.
    times : NodeTimes
    network : Network
    nodes : int
    jitter : float
        Standard deviation of a node's time of a step, as a share of it.

    Raises
    ------
    ConfigError
        If an update has too few rows for so many nodes.
    """
    config = for_ranks(config, nodes)
    if nodes == 1:
        passes = config.rows_per_update / config.batch_size
        compute = passes * times.pass_seconds
        return Projected(1, config.rows_per_update, compute, update=times.update_seconds)
    shares = [share_of(config, rank, nodes) for rank in range(nodes)]
    compute = max(len(s.own_rows) for s in shares) / config.batch_size * times.pass_seconds
    sums, buckets = sums_of_ranks(shares[0]), buckets_of(model.parameters, nodes)
    wire = _Wire(network, times, nodes, model.parameters.dtype.itemsize)
    owned = [sum(b.ranges[rank][1] - b.ranges[rank][0] for b in buckets) for rank in range(nodes)]
    merged = max(len(s.leaves) - own for s, own in zip(shares, sums, strict=True))
    size = model.parameters.grad_arena.size
    return Projected(
        nodes,
        config.rows_per_update,
        compute,
        jitter=compute * jitter * math.sqrt(2 * math.log(nodes)),
        exchange=_not_hidden(model, buckets, sums, wire),
        update=times.update_seconds * max(owned) / size,
        weights=_waited_for(model, buckets, wire),
        small=SMALL_CALLS * wire.latency,
        adding=wire.adding(merged * size),
    )


class _Wire:
    """What it takes to send arrays to all others, and to add up what they send."""

    def __init__(self, network: Network, times: NodeTimes, nodes: int, itemsize: int) -> None:
        self.times = times
        self.latency = network.latency * (nodes - 1)
        self._bandwidth = network.bandwidth / itemsize
        self._adds = times.added_per_second / itemsize

    def seconds(self, flows: list[Flow], rounds: int = 1) -> float:
        """Return how long the rank with the largest flow takes."""
        return rounds * self.latency + max(map(max, flows)) / self._bandwidth

    def adding(self, elements: int) -> float:
        """Return how long one core adds so many elements to others."""
        return elements / self._adds


def _not_hidden(
    model: contracts.Network, buckets: list[Bucket], sums: list[int], wire: _Wire
) -> float:
    """Return for how long the exchange of gradients goes on when the last pass has ended."""
    end = BACKWARD * wire.times.pass_seconds
    done = 0.0
    for bucket, ahead in zip(buckets, _blocks_ahead(model, buckets), strict=True):
        ready = end - BACKWARD * ahead * wire.times.block_seconds
        own = max(stop - start for start, stop in bucket.ranges)
        sent = wire.seconds(gradient_flows(bucket, sums), max(sums))
        done = max(done, ready) + sent + wire.adding(sum(sums) * own)
    return max(0.0, done - end)


def _waited_for(model: contracts.Network, buckets: list[Bucket], wire: _Wire) -> float:
    """Return by how much parameters on their way back hold up the next forward pass."""
    ahead = _blocks_ahead(model, buckets)
    block = (1 - BACKWARD) * wire.times.block_seconds if model.asks_for_values else 0.0
    here = waited = 0.0
    for bucket, number in reversed(list(zip(buckets, ahead, strict=True))):
        here += wire.seconds(weight_flows(bucket))
        waited = max(waited, here - number * block)
    return waited


def _blocks_ahead(model: contracts.Network, buckets: list[Bucket]) -> list[int]:
    """Return for each bucket how many blocks a forward pass makes before it needs some of it.

    A backward pass makes as many after it is done with it.
    """
    parameters, numbers = [p for p in model.parameters if p.trainable], _blocks_of(model)
    return [
        min(
            number
            for p, number in zip(parameters, numbers, strict=True)
            if p.offset < bucket.stop and p.offset + p.size > bucket.start
        )
        for bucket in buckets
    ]


def _blocks_of(model: contracts.Network) -> list[int]:
    """Return for each trainable parameter how many blocks a forward pass makes before it.

    A block's number is the first number in the names of its parameters.
    """
    numbers = [
        next((int(word) for word in p.name.split(".") if word.isdecimal()), None)
        for p in model.parameters
        if p.trainable
    ]
    count = 1 + max((number for number in numbers if number is not None), default=-1)
    first = next((i for i, number in enumerate(numbers) if number is not None), len(numbers))
    return [
        number if number is not None else (0 if i < first else count)
        for i, number in enumerate(numbers)
    ]

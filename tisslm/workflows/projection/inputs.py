"""What a projection starts from: times of one node, and a network, measured or named."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tisslm.errors import ConfigError
from tisslm.system.safe_files import Refusal, show
from tisslm.system.strict_json import read_json

__all__ = [
    "ETHERNET",
    "Network",
    "NodeTimes",
    "measure_adding",
    "parse_latency",
    "read_network",
    "read_times",
]

#: Share of a line's bits that TCP carries in packets of 1500 bytes: 1448 of 1538.
LINE = 1448 / 1538

#: Ethernets that are looked at where none is named, in Gbit/s.
ETHERNET = (1.0, 10.0, 100.0)

#: Most bytes of a file that is read, and what is said of one that is none.
FILE_BYTES = 2**20
NO_FIGURES = Refusal(ConfigError, "no file of figures", "name one that --json has written")

#: Bytes that are added at a time when that is measured: in no cache.
ADDED = 32 * 2**20


@dataclass(frozen=True)
class Network:
    """A network by two numbers.

    Attributes
    ----------
    name : str
    bandwidth : float
        Bytes per second that a node sends, and receives meanwhile.
    latency : float
        Seconds that each message of an exchange costs.
    """

    name: str
    bandwidth: float
    latency: float

    @classmethod
    def ethernet(cls, gbit: float, latency: float) -> Network:
        """Return an Ethernet of so many Gbit/s, as TCP uses it."""
        return cls(f"{gbit:g} Gbit/s", LINE * gbit * 1e9 / 8, latency)


@dataclass(frozen=True)
class NodeTimes:
    """What a node takes by itself.

    Attributes
    ----------
    pass_seconds : float
        Forward and backward of a micro-batch.
    block_seconds : float
        One block in it.
    update_seconds : float
        An update of all parameters.
    added_per_second : float
        Bytes that one core adds to others, counted once.
    source : str
        Where these are from.
    """

    pass_seconds: float
    block_seconds: float
    update_seconds: float
    added_per_second: float
    source: str = "measured here"

    def at_speed(self, gflops: float, flops: float) -> NodeTimes:
        """Return times of a node whose passes run at so many GFLOP/s.

        Parameters
        ----------
        gflops : float
        flops : float
            Operations of a micro-batch; 0 where the model does not count them.

        Raises
        ------
        ConfigError
            If the speed is none, or the model does not count.
        """
        if not (gflops > 0.0 and flops):
            wrong = f"got {gflops:g}" if flops else "but this model does not count its operations"
            raise ConfigError(
                f"--gflops: expected a number > 0, {wrong}; leave it out, or correct it"
            )
        factor = flops / (gflops * 1e9) / self.pass_seconds
        return NodeTimes(
            factor * self.pass_seconds,
            factor * self.block_seconds,
            self.update_seconds,
            self.added_per_second,
            f"passes at {gflops:g} GFLOP/s as given; update and additions {self.source}",
        )


def measure_adding() -> float:
    """Return how many bytes per second one core adds to others."""
    left, right = np.zeros((2, ADDED // 4), np.float32)
    return ADDED / min(_seconds(lambda: np.add(left, right, out=left)) for _ in range(5))


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def read_network(path: Path) -> Network:
    """Return the network that ``benchmarks/network.py --json`` has measured.

    The time of an exchange is taken to be a line: its smallest size gives the price of a message,
    the smallest and the largest the bandwidth.

    Parameters
    ----------
    path : Path

    Raises
    ------
    ConfigError
        If it is no such file.
    """
    document = read_json(path, FILE_BYTES, NO_FIGURES)
    try:
        ranks = len(document["hosts"])
        sizes = {
            int(row["bytes"]): float(row["microseconds"]) / 1e6
            for row in document["results"]
            if row["call"] == "exchange"
        }
        small, large = min(sizes), max(sizes)
        seconds = sizes[large] - sizes[small]
        if ranks < 2 or seconds <= 0.0:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise ConfigError(
            f"--net {path}: expected times of exchanges of at least two sizes between "
            "two ranks or more, as benchmarks/network.py --json writes them; measure again with "
            "mpiexec -n 2 or more"
        ) from None
    others = ranks - 1
    bandwidth = others * (large - small) / seconds
    latency = max(0.0, sizes[small] / others - small / bandwidth)
    return Network(f"measured by {ranks} ranks", bandwidth, latency)


def read_times(path: Path) -> NodeTimes:
    """Return the times that an earlier ``tisslm project --json`` has printed.

    Parameters
    ----------
    path : Path

    Raises
    ------
    ConfigError
        If it is no such file.
    """
    rates: Any = read_json(path, FILE_BYTES, NO_FIGURES).get("rates")
    names = ("pass_seconds", "block_seconds", "update_seconds", "added_per_second")
    try:
        values = {name: float(rates[name]) for name in names}
        used = min(values["pass_seconds"], values["added_per_second"])
        if not (used > 0.0 and min(values.values()) >= 0.0):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise ConfigError(
            f"--rates {path}: expected a table rates with the numbers "
            f"{', '.join(names)}, as tisslm project --json prints it"
        ) from None
    return NodeTimes(**values, source=f"from {path}")


def parse_latency(text: str) -> float:
    """Turn ``25us`` or ``0.1ms`` into seconds.

    Raises
    ------
    ConfigError
        If it is no such time.
    """
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)(us|ms|s)", text.strip())
    if found is None:
        raise ConfigError(f"--latency: expected a time such as 25us or 0.1ms, got {show(text)}")
    return float(found[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[found[2]]

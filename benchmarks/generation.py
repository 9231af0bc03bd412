"""Generation: greedy tokens per second, beside transformers and the speed of reading memory.

    python benchmarks/generation.py --size smollm2-135m-4x256 --peer-python ~/torch-env/bin/python

What does not live here: the operations (``tisslm.ops``), single kernels (``kernels``).
"""

from __future__ import annotations

import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import clone  # noqa: F401 (finds tisslm)
import numpy as np
import typer
from command import JsonFile, PeerPython, Rounds, SizeName, Threads
from machine import describe, say, stop, usable_cores, warn_if_busy, write_json
from protocol import Side, SideFailedError, UnavailableError
from sizes import Size, parse_size

from tisslm import Transformer, TransformerConfig, ops
from tisslm.memory import Arena

SIDES = Path(__file__).parent / "sides"
PEER = "transformers"
WEIGHTS = ("fp32", "bf16")
READ_BYTES = 256 * 2**20  # beyond the caches of nearly every machine
READ_COLUMNS = 4096
READ_SECONDS = 0.3
ALIKE = 20  # greedy ids that must be the peer's before anything is timed


@dataclass
class Times:
    """What was measured, one entry for each round.

    Attributes
    ----------
    step_s : dict of str to list of float
        By weights, the median time of a token, of ours.
    read : dict of str to list of float
        By weights, GB/s of reading memory just before and after, the median of all sweeps.
    rate : dict of str to list of float
        By side, tokens per second, the reading of the prompt included.
    """

    step_s: dict[str, list[float]] = field(default_factory=dict)
    read: dict[str, list[float]] = field(default_factory=dict)
    rate: dict[str, list[float]] = field(default_factory=dict)


class Reading:
    """How fast this machine reads memory: a product of one row, on an array that no cache holds."""

    def __init__(self) -> None:
        shape = (READ_BYTES // 4 // READ_COLUMNS, READ_COLUMNS)
        self._w = Arena(READ_BYTES).take(shape, np.float32)
        self._w[...] = 1.0
        self._x = np.ones((1, READ_COLUMNS), np.float32)
        self._y = np.empty((1, shape[0]), np.float32)

    def sweeps(self) -> list[float]:
        """Return the GB/s of each of some sweeps."""
        found: list[float] = []
        end = perf_counter() + READ_SECONDS
        while perf_counter() < end or not found:
            begin = perf_counter()
            ops.linear_decode(self._x, self._w, None, self._y)
            found.append(READ_BYTES / (perf_counter() - begin) / 1e9)
        return found


def ours(model: Transformer, decoder: Any, prompt: list[int], tokens: int) -> tuple[Any, ...]:
    """Return greedy ids, the whole time, and the time of each step."""
    ids, steps = [], []
    begin = perf_counter()
    logits = decoder.prefill(np.array([prompt]))
    while True:
        ids.append(int(np.argmax(logits[0])))
        if len(ids) == tokens:
            return ids, perf_counter() - begin, steps
        start = perf_counter()
        logits = decoder.step(np.array(ids[-1:]))
        steps.append(perf_counter() - start)


def start_peer(stack: ExitStack, python: str, size: Size, model: Transformer) -> Side | None:
    """Start the peer with our weights; None, with the reason said, if it cannot run."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="generation-")))
    np.savez(folder / "weights.npz", **{p.name: p.data for p in model.parameters})
    env = {"PYTHONPATH": str(Path(__file__).parent)}
    try:
        command = [python, str(SIDES / "transformers_generation.py")]
        side = Side(PEER, command, env, folder / "log")
        stack.callback(side.close)
        job = {"model": size.model(bias=True)}
        say(f"{PEER}: {side.ask('prepare', job=job, folder=str(folder))['about']}")
    except UnavailableError as error:
        say(f"{PEER} is left out: {error}")
        return None
    return side


class Peer:
    """Transformers, on all threads or on one, whichever is faster here.

    Ours finds the number of threads by itself (``tisslm.ops.Pace``).
    """

    def __init__(self, side: Side, prompt: list[int], threads: int) -> None:
        self._side, self._prompt, self.ids = side, prompt, []
        seconds = {}
        for count in sorted({1, threads}):
            self.threads = count
            found = [self.write(ALIKE) for _ in range(2)]
            self.ids, seconds[count] = found[0][0], min(s for _, s in found)
        self.threads = min(seconds, key=lambda count: seconds[count])
        say(f"{PEER} runs on {self.threads} of {threads} threads, where it is faster")

    def write(self, tokens: int) -> tuple[list[int], float]:
        """Return greedy ids and the seconds that they took."""
        request = {"prompt": self._prompt, "tokens": tokens, "threads": self.threads}
        found = self._side.ask("generate", **request)
        return found["ids"], found["seconds"]


def one_round(
    model: Transformer,
    decoders: dict[str, Any],
    peer: Peer | None,
    prompt: list[int],
    tokens: int,
    reading: Reading,
    times: Times,
) -> None:
    """Let each side write once, with the speed of memory around each turn of ours."""
    before = reading.sweeps()
    for weights, decoder in decoders.items():
        _, seconds, steps = ours(model, decoder, prompt, tokens)
        after = reading.sweeps()
        times.rate.setdefault(weights, []).append(tokens / seconds)
        times.step_s.setdefault(weights, []).append(statistics.median(steps))
        times.read.setdefault(weights, []).append(statistics.median(before + after))
        before = after
        if peer is not None and weights == "fp32":
            times.rate.setdefault(PEER, []).append(tokens / peer.write(tokens)[1])
            before = reading.sweeps()


def bytes_of(model: Transformer, decoder: Any) -> int:
    """Count the bytes of the weights that a token reads: every matrix, the output's included."""
    layers = decoder.model.layers
    parts = [getattr(layer, name) for layer in layers for name in ("attention", "mlp")
             if hasattr(layer, name)] or layers  # fmt: skip
    maps = [getattr(part, name) for part in parts for name in ("qkv", "out", "up", "down")
            if hasattr(part, name)]  # fmt: skip
    return sum(m.weight.data.nbytes for m in [*maps, decoder.model.head.project])


def run(
    size: SizeName = "smollm2-135m-4x256",
    tokens: Annotated[int, typer.Option(min=ALIKE, help="New tokens of a turn.")] = 100,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Tokens of the prompt.")] = 8,
    rounds: Rounds = 5,
    threads: Threads = 0,
    peer_python: PeerPython = "",
    json: JsonFile = None,
) -> None:
    """Time greedy generation of one prompt: ours in fp32 and bf16, and transformers, in turns."""
    try:
        shape = parse_size(size)
    except ValueError as error:
        stop(str(error), 2)
    if prompt_tokens + tokens > shape.time:
        stop(f"--tokens: expected a text of at most {shape.time} tokens with its prompt", 2)
    threads = threads or usable_cores()
    ops.set_threads(threads)
    load = warn_if_busy(threads)
    model = Transformer(TransformerConfig(**shape.model(bias=True)), seed=1)
    prompt = np.random.default_rng(1).integers(0, shape.vocab_size, prompt_tokens).tolist()
    decoders = {weights: model.decoder(weights=weights) for weights in WEIGHTS}
    times, reading = Times(), Reading()
    with ExitStack() as stack:
        side = start_peer(stack, peer_python, shape, model) if peer_python else None
        found = {w: ours(model, decoder, prompt, ALIKE)[0] for w, decoder in decoders.items()}
        peer = None if side is None else Peer(side, prompt, threads)
        if peer is not None and peer.ids != found["fp32"]:
            stop(f"not the same computation: ids {found['fp32']} here, {peer.ids} there", 1)
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}, {tokens} tokens on each side")
            try:
                one_round(model, decoders, peer, prompt, tokens, reading, times)
            except SideFailedError as error:
                stop(str(error), 1)
    sizes = {weights: bytes_of(model, decoder) for weights, decoder in decoders.items()}
    print(table(times, sizes))
    about = {"size": str(shape), "threads": threads, "load": load, "machine": describe()}
    write_json(json, {**about, "bytes": sizes, "tokens_per_s": times.rate,
                      "step_s": times.step_s, "read_gb_per_s": times.read})  # fmt: skip


def table(times: Times, sizes: dict[str, int]) -> str:
    """Lay the results out for reading: medians over the rounds, and the fastest."""
    lines = [f"{'':14}{'tokens/s':>10}{'fastest':>10}{'step, ms':>10}{'GB/s':>8}{'of reading':>12}"]
    for who, rates in times.rate.items():
        line = f"{who:14}{statistics.median(rates):10.1f}{max(rates):10.1f}"
        if who in sizes:
            speeds = [sizes[who] / s / 1e9 for s in times.step_s[who]]
            shares = [a / b for a, b in zip(speeds, times.read[who], strict=True)]
            line += f"{statistics.median(times.step_s[who]) * 1e3:10.2f}"
            line += f"{statistics.median(speeds):8.1f}{statistics.median(shares):12.0%}"
        lines.append(line)
    for one, other in (("bf16", "fp32"), ("fp32", PEER)):
        if other in times.rate:
            pairs = zip(times.rate[one], times.rate[other], strict=True)
            ratio = statistics.median(a / b for a, b in pairs)
            lines.append(f"{one} writes {ratio:.2f} times as many tokens per second as {other}")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(run)

"""Adapters: tokens per second and memory of a training step, ours beside PEFT, in turns.

    python benchmarks/lora.py SmolLM2.gguf --peer-python ~/torch-env/bin/python

Every side begins with the same adapters beside the same model, and must have the same losses over
three updates before anything is timed. Each first runs alone, for its memory and to tell which of
the peer's ways is the fastest; that one and our fastest then take turns.

What does not live here: the sides (``sides/tuned.py``, ``sides/peft_side.py``).
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import clone  # noqa: F401 (finds tisslm)
import typer
from command import JsonFile, PeerPython, Rounds, Steps, Threads, attempt
from job import PEER_MALLOC
from machine import describe, say, usable_cores, warn_if_busy, write_json
from protocol import Side, UnavailableError
from turns import PAUSE_SECONDS, PEAK_SECONDS, ROUND_SECONDS, VERIFIED_UPDATES, LossMismatchError

from tisslm.workflows.export import export

HERE = Path(__file__).resolve().parent
GIB = 2**30


@dataclass(frozen=True)
class Way:
    """One way to train.

    Attributes
    ----------
    who : str
    precision : str
        As its side takes it.
    ours, adapters, compiled : bool
        Whose it is; whether adapters are trained, or all of the model, for its memory; whether the
        peer's model is one of torch.compile.
    """

    who: str
    precision: str
    ours: bool = True
    adapters: bool = True
    compiled: bool = False


OURS = (Way("tisslm, bf16", "bf16"), Way("tisslm, fp32", "fp32"))
WHOLE = Way("tisslm, all trained, fp32", "fp32", adapters=False)
PEERS = tuple(
    Way(f"peft, {name}{', compiled' * compiled}", name, ours=False, compiled=compiled)
    for compiled in (False, True)
    for name in ("fp32", "autocast", "bf16")
)

#: Relative, of the losses of three updates. Products of bf16, and a model that is kept in it, leave
#: 1e-3 of a sum over hundreds of random tokens; the updates change the loss by several percent.
TOLERANCE = 3e-3


@dataclass
class Found:
    """What one way came to.

    Attributes
    ----------
    losses : list of float
        Of the verified updates.
    seconds : float
        Of the fastest of these.
    memory : dict
        ``import_rss_bytes``, ``peak_rss_bytes``.
    rates : list of float
        Tokens per second of each turn; none for a way that was not chosen.
    """

    losses: list[float]
    seconds: float
    memory: dict[str, int]
    rates: list[float] = field(default_factory=list)


class Bench:
    """The model, the folders of both sides, and what was found.

    Parameters
    ----------
    job : dict
        What every side is told.
    folder : Path
        Where the model is written for the peer, and adapters for all.
    peer_python : str
        Empty for none.
    """

    def __init__(self, job: dict[str, Any], folder: Path, peer_python: str) -> None:
        self.job, self.folder, self.peer_python = job, folder, peer_python
        self.found: dict[Way, Found] = {}
        self.left_out: dict[str, str] = {}
        self.flops_per_token = 0
        self.of_peak: list[float] = []
        self._adapters = ""

    @property
    def tokens(self) -> int:
        """Tokens of an update."""
        return int(self.job["batch"] * self.job["time"])

    def start(self, way: Way, stack: ExitStack) -> Side:
        """Start a side and prepare it; the stack ends it."""
        threads = str(self.job["threads"])
        env = {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        python, script = sys.executable, "tuned.py"
        if not way.ours:
            python, script, env = self.peer_python, "peft_side.py", env | PEER_MALLOC
        side = Side(way.who, [python, str(HERE / "sides" / script)], env, self.folder / "log")
        stack.callback(side.close)
        if way.ours:
            own = {**self.job, "folder": str(self.folder / way.who)}
            told = side.ask("prepare", job=own, precision=way.precision, adapters=way.adapters)
            if way.adapters:
                self.flops_per_token = told["flops_per_token"]
                self._adapters = told["adapters"]
        else:
            told = {"folder": str(self.folder / "model"), "adapters": self._adapters}
            how = {"precision": way.precision, "compiled": way.compiled}
            side.ask("prepare", job=self.job, **told, **how)
        return side

    def alone(self, way: Way) -> None:
        """Run the verified updates of one way, with no other side alive."""
        say(f"{way.who}: {VERIFIED_UPDATES} updates")
        with ExitStack() as stack:
            try:
                side = self.start(way, stack)
            except UnavailableError as error:
                self.left_out[way.who] = str(error)
                say(f"{way.who} is left out: {error}")
                return
            replies = [side.ask("updates", n=1) for _ in range(VERIFIED_UPDATES)]
            losses = [reply["losses"][0] for reply in replies]
            seconds = min(reply["seconds"] for reply in replies)
            self.found[way] = Found(losses, seconds, side.ask("memory"))
        if way.adapters:
            self._compare(way)

    def _compare(self, way: Way) -> None:
        """Hold the losses of a way against those of the first."""
        expected, found = self.found[OURS[0]].losses, self.found[way].losses
        for update, (a, b) in enumerate(zip(expected, found, strict=True), start=1):
            if not abs(a - b) <= TOLERANCE * abs(a):
                raise LossMismatchError(
                    f"not the same computation: at update {update} the loss is {a:.6g} in "
                    f"{OURS[0].who} and {b:.6g} in {way.who}; nothing was timed"
                )

    def fastest(self, ways: tuple[Way, ...]) -> list[Way]:
        """Return the fastest of those that ran; none if none did."""
        ran = [way for way in ways if way in self.found]
        return [min(ran, key=lambda way: self.found[way].seconds)] if ran else []

    def turns(self, rounds: int, steps: int) -> None:
        """Let our fastest way and the peer's take turns."""
        ways = [*self.fastest(OURS), *self.fastest(PEERS)]
        slowest = max(self.found[way].seconds for way in ways)
        steps = steps or max(1, round(ROUND_SECONDS / slowest))
        with ExitStack() as stack:
            sides = [(way, self.start(way, stack)) for way in ways]
            for _, side in sides:
                side.ask("updates", n=1)
            for number in range(rounds):
                say(f"round {number + 1} of {rounds}, {steps} updates on each side")
                peak = self._peak(sides[0])
                for way, side in sides if number % 2 == 0 else sides[::-1]:
                    time.sleep(PAUSE_SECONDS)
                    seconds = side.ask("updates", n=steps)["seconds"]
                    self.found[way].rates.append(steps * self.tokens / seconds)
                peak = max(peak, self._peak(sides[0]))
                rate = self.found[ways[0]].rates[-1]
                self.of_peak.append(rate * self.flops_per_token / 1e9 / peak)

    def _peak(self, ours: tuple[Way, Side]) -> float:
        way, side = ours
        found = side.ask("peak", seconds=PEAK_SECONDS)["gflops"]
        return float(found.get(way.precision) or found["fp32"])


def table(bench: Bench) -> str:
    """Lay the results out for reading."""
    lines = [f"{'':28}{'resident, GiB':>14}{'loaded':>10}{'tokens/s':>10}{'fastest':>10}"]
    for way, found in bench.found.items():
        gib = [found.memory[name] / GIB for name in ("peak_rss_bytes", "import_rss_bytes")]
        rates = found.rates or [bench.tokens / found.seconds]
        alone = "" if found.rates else "  alone"
        lines.append(
            f"{way.who:28}{gib[0]:14.2f}{gib[1]:10.2f}{statistics.median(rates):10.0f}"
            f"{max(rates):10.0f}{alone}"
        )
    lines.append(f"ours counts {bench.flops_per_token / 1e6:.0f} million operations a token")
    if bench.of_peak:
        share = statistics.median(bench.of_peak)
        lines.append(f"and reaches {share:.0%} of the peak of its precision")
    for sentence in ratios(bench).values():
        lines.append(str(sentence["text"]))
    return "\n".join(lines)


def ratios(bench: Bench) -> dict[str, dict[str, Any]]:
    """Return what ours is beside the peer, and beside training all of the model."""
    found = {}
    ours, peers = bench.fastest(OURS)[0], bench.fastest(PEERS)
    if peers:
        pairs = zip(bench.found[ours].rates, bench.found[peers[0]].rates, strict=True)
        ratio = statistics.median(a / b for a, b in pairs)
        text = f"{ours.who} trains {ratio:.2f} times as many tokens per second as {peers[0].who}"
        found["speed"] = {"ratio": ratio, "text": text}
    for way in OURS if WHOLE in bench.found else ():
        part, whole = (bench.found[w].memory["peak_rss_bytes"] for w in (way, WHOLE))
        text = f"{way.who} has {part / whole:.2f} of the resident memory of {WHOLE.who}"
        found[f"memory, {way.who}"] = {"ratio": part / whole, "text": text}
    return found


def run(
    model: Annotated[Path, typer.Argument(help="A GGUF file, or a folder of transformers.")],
    batch: Annotated[int, typer.Option(min=1, help="Rows of an update.")] = 4,
    row: Annotated[int, typer.Option("--time", min=1, help="Tokens of a row.")] = 256,
    rank: Annotated[int, typer.Option(min=1, help="Of the adapters.")] = 8,
    targets: Annotated[str, typer.Option(help="What has adapters, comma-separated.")] = "q,v",
    compiled: Annotated[
        bool, typer.Option("--compiled", help="The peer under torch.compile, too; minutes.")
    ] = False,
    whole: Annotated[bool, typer.Option(help="Train all of it, too, for its memory.")] = True,
    steps: Steps = 0,
    rounds: Rounds = 5,
    threads: Threads = 0,
    peer_python: PeerPython = "",
    json: JsonFile = None,
) -> None:
    """Time adapters beside a model, ours and PEFT's."""
    threads = threads or usable_cores()
    load = warn_if_busy(threads)
    job = {
        "model": str(model.absolute()),
        "adapter": {"rank": rank, "alpha": 2.0 * rank, "targets": targets.split(",")},
        "batch": batch,
        "time": row,
        "threads": threads,
        "seed": 1337,
        "adamw": {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.0},
        "max_grad_norm": 1.0,
    }
    with tempfile.TemporaryDirectory(prefix="lora-") as folder:
        bench = Bench(job, Path(folder), peer_python)
        if peer_python:
            export(model, Path(folder) / "model")
        peers = [way for way in PEERS if peer_python and way.compiled <= compiled]
        ways = [*OURS, *([WHOLE] if whole else []), *peers]
        attempt(lambda: measure(bench, ways, rounds, steps))
    print(table(bench))
    ways = {
        way.who: {"seconds_alone": found.seconds, "tokens_per_s": found.rates, **found.memory}
        for way, found in bench.found.items()
    }
    about = {"machine": describe(), "load_before": load, "left_out": bench.left_out}
    write_json(json, {**about, **job, "ways": ways, "ratios": ratios(bench)})


def measure(bench: Bench, ways: list[Way], rounds: int, steps: int) -> None:
    """Run every way alone, then the fastest of each side in turns."""
    for way in ways:
        bench.alone(way)
    bench.turns(rounds, steps)


if __name__ == "__main__":
    typer.run(run)

"""Steps 3 to 50 ask for no block of 4 KiB or more, and touch no page for the first time.

Both are counted in a child process, so that nothing else of a test session is counted: blocks by
a preloaded library that sees every request of Python, NumPy, the kernels and OpenMP; pages by the
kernel, as minor faults.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

import tisslm
from tisslm import ops
from tisslm.memory import Parameters, ParameterSpec

pytestmark = [
    pytest.mark.skipif(ops.REFERENCE_ONLY, reason="the NumPy twins make arrays"),
    pytest.mark.skipif(
        os.environ.get("TISSLM_SANITIZE") == "1", reason="a sanitizer takes memory of its own"
    ),
]

HERE = Path(__file__).parent
ROOT = str(Path(tisslm.__file__).parents[1])

#: A run of a few MB, with what may allocate: dropout, micro-batches, ragged targets, clipping.
CHILD = """
import ctypes, gc, json, resource, sys
import numpy as np
from tisslm import TokenDataset, Trainer, TrainingConfig, Transformer, TransformerConfig

loss, optimizer, extra = json.loads(sys.argv[1])
sizes = dict(n_layer=2, n_head=2, n_embd=64, seq_len=64, vocab_size=300, dropout=0.1)
if "everything" in extra:
    sizes |= dict(family="qwen3", n_kv_head=1, head_dim=16, window=20, logit_cap=20.0)
    sizes |= dict(layer_types=["sliding_attention", "full_attention"])
    sizes |= dict(parallel_residual="parallel" in extra)
shape = TransformerConfig(**sizes)
precision = extra.split()[-1]
passes = {"precision": precision, "activation_checkpointing": "full"} if "16" in extra else {}
config = TrainingConfig(
    batch_size=24, gradient_accumulation_steps=2, max_steps=60, output_dir="o", **passes
)
tokens = np.random.default_rng(0).integers(0, 300, 30000).astype(np.uint16)
dataset = TokenDataset(tokens, 64, vocab_size=300)
if extra == "mixed":
    from tisslm.datasets import MixedDataset, PackedDataset, TokenDocuments
    offsets = np.arange(0, 30001, 25)
    documents = TokenDocuments(tokens, offsets, tokens > 50, 300)
    cut = PackedDataset(documents, 64)
    whole = PackedDataset(documents, 64, packing="whole")
    dataset = MixedDataset([(cut, 2.0), (whole, 1.0)])
trainer = Trainer(Transformer(shape), optimizer, loss, dataset=dataset, config=config, sinks=())
stream = trainer.dataset.stream(48, seed=1)
counter = ctypes.CDLL(None) if extra != "faults" else None
start = np.repeat(np.tile(np.array([0, 1, 30], np.int32), (48, 1)), [1, 29, 34], axis=1)
start = start if "documents" in extra else None

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def step():
    x, y, *of_data = next(stream)
    if extra == "copies":
        y = y.copy()
    y[0, :7] = -100
    trainer.train_step(x, y, *of_data if start is None else (start[: len(x)],))

steps = []
for number in range(1, 51):
    if number == 3:
        gc.collect()
        gc.freeze()
    if counter:
        counter.start_counting()
    before = faults()
    step()
    touched = faults() - before
    if counter:
        counter.stop_counting()
        steps.append((counter.counted_blocks(), counter.largest_block()))
    else:
        steps.append((touched, 0))
print(json.dumps(steps[2:]))
"""


#: The same in ``Trainer.train``, with reports to the default sinks after every step.
WHOLE_RUN = """
import ctypes, gc, json
import numpy as np
from tisslm import TokenDataset, Trainer, TrainingConfig, Transformer, TransformerConfig
from tisslm.contracts import Sink

counter, steps = ctypes.CDLL(None), []

class Count(Sink):
    def open(self, run):
        pass

    def write(self, step, metrics):
        counter.stop_counting()
        steps.append((counter.counted_blocks(), counter.largest_block()))
        if step == 2:
            gc.collect()
            gc.freeze()
        counter.start_counting()

    def close(self):
        counter.stop_counting()

shape = TransformerConfig(n_layer=2, n_head=2, n_embd=64, seq_len=64, vocab_size=300, dropout=0.1)
config = TrainingConfig(batch_size=24, gradient_accumulation_steps=2, max_steps=50, output_dir="o")
tokens = np.random.default_rng(0).integers(0, 300, 30000).astype(np.uint16)
dataset = TokenDataset(tokens, 64, vocab_size=300)
sinks = ("console", "jsonl", Count())
Trainer(Transformer(shape), dataset=dataset, config=config, sinks=sinks).train()
print(json.dumps(steps[2:50]))
"""


def run(
    folder: Path, given: tuple[str, str, str] | None, **environment: str
) -> list[tuple[int, int]]:
    """Return (blocks, largest) or (faults, 0) of steps 3 to 50."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD if given else WHOLE_RUN, json.dumps(given)],
        env={**os.environ, "TISSLM_NUM_THREADS": "2", "PYTHONPATH": ROOT, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == 48
    return [tuple(step) for step in found]


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Compile the library that counts, and return its path."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or platform.libc_ver()[0] != "glibc":
        pytest.skip("blocks are counted with a C compiler, under glibc")
    library = tmp_path_factory.mktemp("counting") / "count_allocations.so"
    source = HERE / "count_allocations.c"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    return str(library)


@pytest.mark.parametrize("loss", ["cross_entropy", "label_smoothing", "focal"])
def test_a_step_asks_for_no_large_block(counting: str, tmp_path: Path, loss: str) -> None:
    found = run(tmp_path, (loss, "adamw", "blocks"), LD_PRELOAD=counting)
    assert found == [(0, 0)] * 48


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_every_optimizer_keeps_to_its_arenas(counting: str, tmp_path: Path, optimizer: str) -> None:
    found = run(tmp_path, ("cross_entropy", optimizer, "blocks"), LD_PRELOAD=counting)
    assert found == [(0, 0)] * 48


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_and_recomputed_blocks_ask_for_none(
    counting: str, tmp_path: Path, precision: str
) -> None:
    found = run(tmp_path, ("cross_entropy", "adamw", precision), LD_PRELOAD=counting)
    assert found == [(0, 0)] * 48


def test_packed_and_mixed_rows_ask_for_none(counting: str, tmp_path: Path) -> None:
    found = run(tmp_path, ("cross_entropy", "adamw", "mixed"), LD_PRELOAD=counting)
    assert found == [(0, 0)] * 48


def test_documents_ask_for_none_either(counting: str, tmp_path: Path) -> None:
    found = run(tmp_path, ("cross_entropy", "adamw", "documents"), LD_PRELOAD=counting)
    assert found == [(0, 0)] * 48


@pytest.mark.parametrize(
    "extra",
    ["everything", "everything parallel documents", "everything documents bf16"],
)
def test_windows_rotations_norms_of_heads_gates_and_caps_ask_for_none(
    counting: str, tmp_path: Path, extra: str
) -> None:
    found = run(tmp_path, ("cross_entropy", "adamw", extra), LD_PRELOAD=counting)
    assert found == [(0, 0)] * 48


def test_reports_between_steps_ask_for_none_either(counting: str, tmp_path: Path) -> None:
    found = run(tmp_path, None, LD_PRELOAD=counting)
    assert found == [(0, 0)] * 48


def test_a_single_copy_of_the_targets_would_be_seen(counting: str, tmp_path: Path) -> None:
    found = run(tmp_path, ("cross_entropy", "adamw", "copies"), LD_PRELOAD=counting)
    whole, last = 48 * 64 * 4, 36 * 64 * 4  # 468 windows: the last batch of an epoch has 36
    assert set(found) == {(1, whole), (1, last)}


def test_a_step_touches_no_page_for_the_first_time(tmp_path: Path) -> None:
    """Python's own small objects may still need a page here and there, each for good.

    One fault in four steps is allowed for them and for what the kernel moves: a single mapped
    copy of the targets would cost three faults in every step.
    """
    found = run(tmp_path, ("cross_entropy", "adamw", "faults"))
    faults = [count for count, _ in found]
    assert sum(faults) <= len(faults) // 4, faults
    assert sorted(faults)[len(faults) // 2] == 0, faults


def test_the_norm_of_a_large_gradient_takes_no_block() -> None:
    """Ten million numbers have 611 partial sums, 4888 bytes: kept, and never made a list."""
    parameters = Parameters([ParameterSpec("w", (10_000, 1000))])
    parameters["w"].grad[...] = 2.0
    assert parameters.grad_norm() == pytest.approx(2e3 * 10**0.5)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        parameters.grad_norm()
        assert tracemalloc.get_traced_memory()[1] - before < 4096
        tracemalloc.reset_peak()
        ops.global_norm(parameters.grad)
        assert tracemalloc.get_traced_memory()[1] - before > 4096
    finally:
        tracemalloc.stop()

"""The whole GPT-2 model against PyTorch: logits, loss, every gradient, five updates of AdamW.

Rows of several documents are held against PyTorch under a dense mask of blocks on the diagonal,
with positions that count from each document's beginning.

The first half reads golden files that ``tests/golden/make_golden.py`` wrote with PyTorch; the
second half asks PyTorch itself, where the extra ``tisslm[test-torch]`` is installed.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from tolerances import largest_error

from tisslm import Trainer, TrainingConfig, Transformer, TransformerConfig
from tisslm.contracts import Batch, Dataset, Rows, target_weights
from tisslm.datasets import PackedDataset, TokenDocuments
from tisslm.optim.losses.cross_entropy import CrossEntropy

ROOT = Path(__file__).resolve().parents[2]
VARIANTS = ("gelu", "gelu_tanh")
DTYPES = ("float32", "float64")
WAYS = ("forward and backward", "step_loss")

Array = NDArray[Any]

# Relative to the largest element of each array. float32: what the project promises; a forward and
# backward of two blocks rounds by about 1e-6. float64: two orders of the same operations.
LOGITS = {"float32": 1e-5, "float64": 1e-10}
GRADIENTS = {"float32": 1e-4, "float64": 1e-10}
# Five updates carry rounding on. Adam's first ones move every weight by about the learning rate,
# 1e-3 here, whatever its gradient's size, so errors of small gradients show, times 1e-3.
LOSSES_OF_UPDATES = {"float32": 1e-5, "float64": 1e-10}
FINAL_WEIGHTS = {"float32": 1e-5, "float64": 1e-10}


class Given(Dataset):
    """A data set of given rows, in the given order."""

    def __init__(self, x_BT: Array, y_BT: Array, vocab_size: int) -> None:
        self.x_BT, self.y_BT = x_BT, y_BT
        self.seq_len, self.vocab_size = x_BT.shape[1], vocab_size

    def __len__(self) -> int:
        return len(self.x_BT)

    def window(self, i: int) -> tuple[Array, Array]:
        return Rows(self.x_BT[i], self.y_BT[i])

    def order(self, seed: int, epoch: int) -> Sequence[int]:
        return range(len(self))


@dataclass(frozen=True)
class Golden:
    """One golden file."""

    arrays: Mapping[str, Array]
    about: dict[str, Any]

    def model(self, dtype: str) -> Transformer:
        return build(self.about["model"], self.named("weights"), dtype)

    def named(self, prefix: str) -> dict[str, Array]:
        start = f"{prefix}/"
        return {k.removeprefix(start): v for k, v in self.arrays.items() if k.startswith(start)}

    def trainer(self, model: Transformer) -> Trainer:
        options = dict(self.about["adamw"])
        options["beta1"], options["beta2"] = options.pop("betas")
        config = TrainingConfig(
            batch_size=self.arrays["x"].shape[1],
            learning_rate=options.pop("lr"),
            max_grad_norm=self.about["max_grad_norm"],
        )
        return Trainer(
            model,
            optimizer=("adamw", options),
            loss_fn="cross_entropy",
            scheduler="constant",
            dataset=Given(self.arrays["x"][0], self.arrays["y"][0], model.vocab_size),
            config=config,
            sinks=(),
        )


@pytest.fixture(scope="module", params=VARIANTS)
def golden(request: pytest.FixtureRequest) -> Golden:
    path = ROOT / "tests" / "golden" / f"gpt2_small_{request.param}.npz"
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    return Golden(arrays, json.loads(str(arrays["about"])))


def build(config: dict[str, Any], weights: Mapping[str, Array], dtype: str) -> Transformer:
    """Make our model with given weights, which must be all of its parameters."""
    model = Transformer(TransformerConfig(**config), seed=0, dtype=dtype)
    assert {p.name: p.shape for p in model.parameters} == {k: w.shape for k, w in weights.items()}
    for parameter in model.parameters:
        parameter.data[...] = weights[parameter.name]
        parameter.grad[...] = np.nan  # a fresh gradient is overwritten, or this shows
    model.parameters.zero_grad()
    return model


def loss_and_gradients(
    model: Transformer, x: Array, y: Array, way: str, start: Array | None = None
) -> float:
    """Leave the gradients in the model, computed in one of ``WAYS``."""
    if way == "step_loss":
        weights = target_weights(y, model.parameters.dtype)
        return model.step_loss(Batch(x, y, weights, start), CrossEntropy())
    loss = CrossEntropy()
    logits, cache = model.forward(x, train=True, start=start)
    value = loss.forward(logits, y)
    model.backward(loss.backward(), cache)
    return value


def assert_gradients(model: Transformer, expected: Mapping[str, Array], tolerance: float) -> None:
    errors = {p.name: largest_error(p.grad, expected[p.name]) for p in model.parameters}
    assert all(error <= tolerance for error in errors.values()), errors


@pytest.mark.parametrize("dtype", DTYPES)
def test_logits_are_those_of_pytorch(golden: Golden, dtype: str) -> None:
    logits, _ = golden.model(dtype).forward(golden.arrays["x"][0])
    assert logits.dtype == dtype
    assert largest_error(logits, golden.arrays[f"{dtype}/logits"]) <= LOGITS[dtype]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_loss_and_every_gradient_are_those_of_pytorch(golden: Golden, dtype: str, way: str) -> None:
    model = golden.model(dtype)
    loss = loss_and_gradients(model, golden.arrays["x"][0], golden.arrays["y"][0], way)
    assert loss == pytest.approx(float(golden.arrays[f"{dtype}/loss"]), rel=LOGITS[dtype])
    gradients = golden.named(f"{dtype}/gradient")
    assert_gradients(model, gradients, GRADIENTS[dtype])
    norm = np.linalg.norm(model.parameters.grad)
    assert norm == pytest.approx(float(golden.arrays[f"{dtype}/grad_norm"]), rel=GRADIENTS[dtype])


def test_positions_after_the_last_token_have_no_gradient(golden: Golden) -> None:
    model = golden.model("float32")
    x, y = golden.arrays["x"][0], golden.arrays["y"][0]
    loss_and_gradients(model, x, y, "step_loss")
    gradient = model.parameters["embedding.position.weight"].grad
    assert gradient[: x.shape[1]].all()
    assert not gradient[x.shape[1] :].any()


@pytest.fixture(scope="module")
def golden_documents() -> dict[str, Array]:
    """What ``make_golden.py`` computed for rows of several documents."""
    with np.load(ROOT / "tests" / "golden" / "gpt2_small_documents.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_documents_in_a_row_are_those_of_pytorch_under_a_mask(
    golden: Golden, golden_documents: dict[str, Array], dtype: str, way: str
) -> None:
    model = golden.model(dtype)
    x, y, start = (golden_documents[key] for key in ("x", "y", "start"))
    rows = Golden(golden_documents, golden.about)
    expected = rows.named(f"{golden.about['model']['activation']}/{dtype}")

    logits, _ = model.forward(x, start=start)
    assert largest_error(logits, expected["logits"]) <= LOGITS[dtype]
    loss = loss_and_gradients(model, x, y, way, start)
    assert loss == pytest.approx(float(expected["loss"]), rel=LOGITS[dtype])
    gradients = Golden(expected, {}).named("gradient")
    assert_gradients(model, gradients, GRADIENTS[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_five_clipped_updates_of_adamw_are_those_of_pytorch(golden: Golden, dtype: str) -> None:
    model = golden.model(dtype)
    trainer = golden.trainer(model)
    batches = zip(golden.arrays["x"], golden.arrays["y"], strict=True)
    losses = np.array([trainer.train_step(x, y) for x, y in batches])
    assert largest_error(losses, golden.arrays[f"{dtype}/losses"]) <= LOSSES_OF_UPDATES[dtype]
    final, width = golden.named(f"{dtype}/final"), golden.about["model"]["n_embd"]
    for parameter in model.parameters:
        ours, theirs = parameter.data, final[parameter.name]
        if parameter.name.endswith("qkv.bias"):
            # Softmax does not see the keys' bias: its gradient is zero, and what rounding
            # leaves of it is blown up by Adam to updates of any sign.
            ours, theirs = np.delete(ours, keys(width)), np.delete(theirs, keys(width))
        assert largest_error(ours, theirs) <= FINAL_WEIGHTS[dtype], parameter.name


def keys(width: int) -> slice:
    """Where the keys are among the rows of [queries | keys | values]."""
    return slice(width, 2 * width)


# ------------------------------------------------------------------ PyTorch itself


@pytest.fixture(scope="module")
def torch_gpt() -> ModuleType:
    """The model of ``benchmarks/sides/torch_gpt.py``."""
    return module_with_torch(ROOT / "benchmarks" / "sides" / "torch_gpt.py")


@pytest.fixture(scope="module")
def torch_documents() -> ModuleType:
    """Its pass over rows of several documents."""
    return module_with_torch(ROOT / "tests" / "golden" / "torch_documents.py")


def module_with_torch(path: Path) -> ModuleType:
    """Import a file that needs PyTorch, or skip the test."""
    pytest.importorskip("torch", reason="needs PyTorch: pip install tisslm[test-torch]")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def draw_model(seed: int) -> tuple[dict[str, Any], Array, Array]:
    """Draw a shape, inputs, and targets of which about one in five is -100."""
    rng = np.random.default_rng(seed)
    n_head, batch, time = (int(rng.integers(low, high)) for low, high in ((1, 5), (1, 5), (2, 80)))
    config = {
        "n_layer": int(rng.integers(1, 4)),
        "n_head": n_head,
        "n_embd": n_head * int(rng.integers(2, 20)),
        "seq_len": time + int(rng.integers(0, 5)),
        "vocab_size": int(rng.integers(10, 300)),
        "bias": bool(seed % 2),
        "activation": VARIANTS[seed // 2 % 2],
    }
    x = rng.integers(0, config["vocab_size"], (batch, time), dtype=np.int32)
    y = rng.integers(0, config["vocab_size"], (batch, time), dtype=np.int32)
    return config, x, np.where(rng.random(y.shape) < 0.2, np.int32(-100), y)


def draw_weights(peer: Any, seed: int) -> dict[str, Array]:
    """Draw weights for PyTorch's model, and give them to it."""
    rng = np.random.default_rng(seed)
    state = {}
    for name, parameter in peer.named_parameters():
        centre = 1.0 if name.endswith("norm.weight") else 0.0
        state[name] = (centre + 0.2 * rng.standard_normal(parameter.shape)).astype(np.float32)
        parameter.data.copy_(parameter.data.new_tensor(state[name]))
    return state


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(4))
def test_a_drawn_model_agrees_with_pytorch(torch_gpt: ModuleType, seed: int, dtype: str) -> None:
    import torch

    config, x, y = draw_model(seed)
    peer = torch_gpt.GPT(**config).to(getattr(torch, dtype))
    model = build(config, draw_weights(peer, seed), dtype)
    x_torch, y_torch = (torch.from_numpy(part.astype(np.int64)) for part in (x, y))

    logits, _ = model.forward(x)
    assert largest_error(logits, peer(x_torch).detach().numpy()) <= LOGITS[dtype]

    loss = peer(x_torch, y_torch)
    loss.backward()
    ours = loss_and_gradients(model, x, y, WAYS[seed % 2])
    assert ours == pytest.approx(loss.item(), rel=LOGITS[dtype])
    gradients = {name: p.grad.numpy() for name, p in peer.named_parameters()}
    assert_gradients(model, gradients, GRADIENTS[dtype])


def draw_packed(
    config: dict[str, Any], rows: int, packing: Literal["stream", "whole"], seed: int
) -> tuple[Array, ...]:
    """Draw documents, of which about one token in five is not learned, and pack them into rows."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, config["seq_len"] // 2, 8 * rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = rng.integers(0, config["vocab_size"], offsets[-1], dtype=np.uint16)
    learn = rng.random(len(tokens)) > 0.2
    documents = TokenDocuments(tokens, offsets, learn, vocab_size=config["vocab_size"])
    dataset = PackedDataset(documents, config["seq_len"], packing=packing)
    return next(iter(dataset.batches(rows, seed)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("packing", ["stream", "whole"])
@pytest.mark.parametrize("seed", range(4, 8))
def test_a_packed_batch_agrees_with_pytorch_under_a_mask(
    torch_gpt: ModuleType,
    torch_documents: ModuleType,
    seed: int,
    packing: Literal["stream", "whole"],
    dtype: str,
) -> None:
    import torch

    config, drawn, _ = draw_model(seed)
    config["seq_len"] += 20  # several documents in a row, also where the drawn one is short
    x, y, start = draw_packed(config, len(drawn), packing, seed)
    assert ((start > 0) & (y != -100)).any()  # a document that is learned and not the first
    peer = torch_gpt.GPT(**config).to(getattr(torch, dtype))
    model = build(config, draw_weights(peer, seed), dtype)
    x_torch, y_torch, begins = (torch.from_numpy(part.astype(np.int64)) for part in (x, y, start))

    theirs = torch_documents.documents_logits(peer, x_torch, begins)
    loss = torch_documents.documents_loss(theirs, y_torch)
    loss.backward()
    logits, _ = model.forward(x, start=start)
    assert largest_error(logits, theirs.detach().numpy()) <= LOGITS[dtype]
    ours = loss_and_gradients(model, x, y, WAYS[seed % 2], start)
    assert ours == pytest.approx(loss.item(), rel=LOGITS[dtype])
    gradients = {name: p.grad.numpy() for name, p in peer.named_parameters()}
    assert_gradients(model, gradients, GRADIENTS[dtype])

"""Models of the other families: the same bits for any threads, cuts, recomputation and resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tolerances import FLOAT64_ROUNDING

from tisslm import Trainer, TrainingConfig, Transformer, TransformerConfig, ops
from tisslm.contracts import Batch, target_weights
from tisslm.datasets import PackedDataset, TokenDocuments
from tisslm.optim.losses.cross_entropy import CrossEntropy

pytestmark = pytest.mark.skipif(ops.REFERENCE_ONLY, reason="the twins have no threads")

PRECISIONS = ["fp32", "bf16", "fp16"]
VOCAB = 61

#: Presets, and shapes that have what these lack.
SHAPES: dict[str, dict[str, Any]] = {
    "llama-tiny": {"preset": "llama-tiny"},
    "qwen3-tiny": {"preset": "qwen3-tiny"},
    "mistral": {"preset": "llama-tiny", "family": "mistral", "window": 10, "logit_cap": 15.0},
    "gpt_neox": {"preset": "llama-tiny", "family": "gpt_neox", "rotary_fraction": 0.5},
}


def shape_of(name: str, **more: Any) -> TransformerConfig:
    values = {**SHAPES[name], "vocab_size": VOCAB, "dropout": 0.1, "n_layer": 2, **more}
    return TransformerConfig.preset(values.pop("preset"), **values)


def trainer_of(name: str, folder: Path, **settings: Any) -> Trainer:
    """Compose a run over packed documents, with dropout."""
    rng = np.random.default_rng(2)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(5, 40, 200))])
    ids = rng.integers(0, VOCAB, offsets[-1], dtype=np.uint16)
    shape = shape_of(name)
    dataset = PackedDataset(TokenDocuments(ids, offsets, vocab_size=VOCAB), shape.seq_len)
    config = TrainingConfig(
        **{
            "max_steps": 8,
            "batch_size": 2,
            "gradient_accumulation_steps": 2,
            "save_every": 0,
            "output_dir": str(folder),
            **settings,
        }
    )
    return Trainer(Transformer(shape, seed=1), dataset=dataset, config=config, sinks=())


def bits(trainer: Trainer) -> tuple[bytes, bytes]:
    parameters = trainer.model.parameters.data.tobytes()
    return parameters, np.array(list(trainer.loss_history)).tobytes()


@pytest.fixture
def threads():
    """Set the number of threads of the kernels; the test's end sets it back."""
    before = ops.thread_count().count
    yield ops.set_threads
    ops.set_threads(before)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", SHAPES)
def test_steps_have_the_same_bits_for_any_threads_and_with_recomputation(
    name, precision, threads, tmp_path
):
    found = []
    for i, (count, setting) in enumerate([(1, "none"), (2, "full"), (3, "none"), (5, "every=2")]):
        threads(count)
        trainer = trainer_of(
            name, tmp_path / str(i), precision=precision, activation_checkpointing=setting
        )
        trainer.train()
        found.append(bits(trainer))
    assert all(other == found[0] for other in found[1:])


@pytest.mark.parametrize("name", SHAPES)
def test_a_resumed_run_ends_with_the_bits_of_one_that_was_not_interrupted(name, tmp_path):
    whole = trainer_of(name, tmp_path / "whole", save_every=3)
    whole.train()
    saved = list((tmp_path / "whole").rglob("checkpoint-3"))
    assert len(saved) == 1
    again = trainer_of(name, tmp_path / "again", resume=str(saved[0]))
    again.train()
    assert again.model.parameters.data.tobytes() == whole.model.parameters.data.tobytes()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", SHAPES)
def test_micro_batches_give_the_gradients_of_one_batch(name, precision):
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, VOCAB, (2, 4, 48))
    y[0, 3:] = y[1] = -100
    scale = 65536.0 if precision == "fp16" else 1.0
    weights = target_weights(y, np.float64) * scale
    models = [Transformer(shape_of(name), seed=5) for _ in range(2)]
    losses = []
    for model, rows in zip(models, (4, 1), strict=True):
        model.prepare(precision=precision)
        losses.append(
            sum(
                model.step_loss(
                    Batch(x[i : i + rows], y[i : i + rows], weights[i : i + rows]),
                    CrossEntropy(),
                    first_row=i,
                )
                for i in range(0, 4, rows)
            )
        )
    # one accumulation in another order: a few float32 roundings of sums of some hundred terms
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    for p, q in zip(models[0].parameters, models[1].parameters, strict=True):
        assert np.abs(p.grad - q.grad).max() <= 1e-6 * np.abs(p.grad).max(), p.name


@pytest.mark.parametrize("name", SHAPES)
def test_a_document_alone_and_in_a_row_is_the_same(name):
    rng = np.random.default_rng(4)
    x = rng.integers(0, VOCAB, (1, 60))
    start = np.repeat([0, 17, 40], [17, 23, 20])[None].astype(np.int32)
    # the twin's products are those of BLAS, which adds in an order that follows from the shape
    for dtype, tolerance in (("float64", FLOAT64_ROUNDING), ("float32", 1e-5)):
        model = Transformer(shape_of(name, dropout=0.0), seed=5, dtype=dtype)
        whole, _ = model.forward(x, start=start)
        for begin, end in ((0, 17), (17, 40), (40, 60)):
            alone, _ = model.forward(x[:, begin:end])
            error = np.abs(whole[:, begin:end] - alone).max()
            assert error <= tolerance * np.abs(alone).max()

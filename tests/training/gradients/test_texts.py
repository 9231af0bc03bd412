"""Gradients of an encoder: those of the whole update, however it is cut and on however many ranks.

The loss is written down in ``embedding_runs``; those that are installed have tests of their own.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedding_runs import Examples, InBatch, run_of, shape_of, trainer_of
from thread_ranks import run_ranks
from tolerances import largest_error

from tisslm.contracts import PooledBatch, Rows, TextBatch
from tisslm.errors import ConfigError, DataError, NonFiniteError, ShapeError
from tisslm.models.encoder.text_encoder import TextEncoder
from tisslm.optim.losses import Contrastive, CrossEntropy
from tisslm.registry import load_registry
from tisslm.training.gradients.texts import texts_of
from tisslm.training.memory_plan.planner import Planner
from tisslm.training.nonfinite.finding import Fault
from tisslm.training.trainer import Trainer

N = 12


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, threads: Any) -> None:
    threads(1)
    monkeypatch.setattr(os, "fsync", lambda _: None)


def rows_of(dataset: Examples, count: int = N) -> Rows:
    return Rows.stack([dataset.window(i) for i in range(count)])


def gradients(tmp_path: Path, size: int, **changes: Any) -> tuple[float, np.ndarray]:
    """Return loss and gradient of 12 examples in micro-batches of this size."""
    dataset = changes.pop("dataset", None) or Examples(N)
    changes = {"gradient_accumulation_steps": N // size, **changes}
    trainer = trainer_of(tmp_path, dataset, batch_size=size, **changes)
    loss = trainer.session.step.gradients(rows_of(dataset)).loss
    return loss, trainer.model.parameters.grad.copy()


@pytest.mark.parametrize("kind", [{}, {"pooling": "max", "projection": 7}, {"logit_scale": 9.0}])
@pytest.mark.parametrize("n_texts", [2, 3])
def test_micro_batches_of_any_size_leave_the_gradients_of_one(
    tmp_path: Path, kind: dict[str, Any], n_texts: int
) -> None:
    loss = InBatch(learned="logit_scale" in kind)
    settings = {"dataset": Examples(N, n_texts), "loss": loss, "shape": kind}
    whole, expected = gradients(tmp_path, N, **settings)
    assert abs(expected).max() > 0
    for size in (1, 3, 4):
        value, found = gradients(tmp_path, size, **settings)
        assert value == pytest.approx(whole, rel=1e-6)  # float32, in products of other sizes
        assert largest_error(found, expected) < 1e-6


def test_they_are_the_gradients_of_the_loss(tmp_path: Path) -> None:
    """Written out by hand on the twin, in float64, against the engine's in micro-batches of 3."""
    dataset, settings = Examples(N), {"dtype": "float64", "shape": {"logit_scale": 5.0}}
    loss = InBatch(learned=True)
    _, found = gradients(tmp_path, 3, dataset=dataset, loss=loss, **settings)
    model = trainer_of(tmp_path, dataset, loss, batch_size=N, **settings).model
    assert isinstance(model, TextEncoder)
    assert model.logit_scale is not None
    batch = TextBatch.pack(list(texts_of(rows_of(dataset))), model.seq_len)

    def value() -> Any:
        e_NKE = model.embed(batch)[0].reshape(N, 2, -1)
        scale = float(model.logit_scale.data[0])
        ids_KN = np.arange(2 * N).reshape(2, N)
        return loss.value(PooledBatch(e_NKE.transpose(1, 0, 2), ids_KN, None, scale)).loss

    rng = np.random.default_rng(8)
    for parameter in model.parameters:
        direction, kept, step = rng.standard_normal(parameter.shape), parameter.data.copy(), 1e-6
        parameter.data[...] = kept + step * direction
        above = value()
        parameter.data[...] = kept - step * direction
        slope = (above - value()) / (2 * step)
        parameter.data[...] = kept
        grad = found[parameter.offset : parameter.offset + parameter.size]
        assert float(grad @ direction.ravel()) == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_the_second_forward_has_the_dropout_of_the_first(tmp_path: Path) -> None:
    """Else the gradient of a micro-batch would be of other vectors than the loss has seen."""
    seen: list[bytes] = []
    trainer = trainer_of(tmp_path, Examples(N), batch_size=3, shape={"dropout": 0.4})
    embed = TextEncoder.embed

    def noting(self: TextEncoder, texts: TextBatch, **how: Any) -> Any:
        found = embed(self, texts, **how)
        seen.append(found[0].tobytes())
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TextEncoder, "embed", noting)
        trainer.session.step.gradients(rows_of(Examples(N)))
    assert (len(seen), seen[:3]) == (7, seen[4:])


@pytest.mark.parametrize(("size", "expected"), [(N, [0]), (3, [1, 2, 3, 0, 1, 2, 3])])
def test_the_first_micro_batch_is_run_forward_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, expected: list[int]
) -> None:
    numbers, kept = [], []
    embed = TextEncoder.embed

    def noting(self: TextEncoder, texts: TextBatch, *, first_row: int = 0, **how: Any) -> Any:
        numbers.append(first_row // (2 * size))
        kept.append(how.get("gradient", False))
        return embed(self, texts, first_row=first_row, **how)

    monkeypatch.setattr(TextEncoder, "embed", noting)
    trainer = trainer_of(tmp_path, Examples(N), batch_size=size)
    trainer.session.step.gradients(rows_of(Examples(N)))
    assert numbers == expected
    assert kept == [False] * (N // size - 1) + [True] * (N // size)
    # a fault, which counts passes, is told of the micro-batch that had it
    fault = Fault("operand", "pooling", "forward", "op", "x", "", (0,), math.nan, 1, 1)
    located = trainer.session.step._gradients.located
    passes = range(len(expected))
    assert [located(replace(fault, micro_batch=i), N).micro_batch for i in passes] == expected


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_number_of_threads_changes_no_bit(tmp_path: Path, threads: Any, precision: str) -> None:
    found = set()
    for count in (1, 2, 3):
        threads(count)
        _, grad = gradients(tmp_path, 3, precision=precision, shape={"projection": 6})
        found.add(grad.tobytes())
    assert len(found) == 1


def train(tmp_path: Path, name: str, communicator: Any = "local", **changes: Any) -> Any:
    """Train to the end; return the bits of the parameters, the losses, and the tokens seen."""
    (tmp_path / name).mkdir(exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = run_of(tmp_path / name, communicator, **changes)
        trainer.train()
    data = trainer.model.parameters.data.tobytes()
    return data, list(trainer.loss_history), trainer.state.tokens_seen


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_several_ranks_have_the_bits_of_one(tmp_path: Path, precision: str) -> None:
    expected = train(tmp_path, "one", precision=precision)
    assert len(set(expected[1])) == 5
    for size in (2, 3):
        (tmp_path / str(size)).mkdir()
        run = partial(train, tmp_path / str(size), "run", precision=precision)
        assert run_ranks(size, run) == [expected] * size


def test_a_resumed_run_has_the_bits_of_one_that_went_on(tmp_path: Path) -> None:
    whole = train(tmp_path, "whole", max_steps=7)
    train(tmp_path, "cut", max_steps=3)
    found = train(tmp_path, "cut", max_steps=7, resume="auto")
    assert (found[0], found[2]) == (whole[0], whole[2])
    assert found[1] == whole[1]


KILLED = """
import os, signal, sys
from pathlib import Path
from embedding_runs import run_of

trainer, calls = run_of(Path(sys.argv[1]), max_steps=7, save_every=2), []

def check():
    calls.append(1)
    if len(calls) == 45:  # in the fifth update, between two passes
        os.kill(os.getpid(), signal.SIGKILL)

trainer.session.step._gradients._check = check
trainer.train()
"""


def test_a_run_that_is_killed_goes_on_as_if_it_were_not(tmp_path: Path) -> None:
    whole = train(tmp_path, "whole", max_steps=7, save_every=2)
    (tmp_path / "cut").mkdir()
    paths = os.pathsep.join(filter(None, sys.path))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "cut")],
        env={**os.environ, "PYTHONPATH": paths},
        check=False,
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    saved = [path.name for path in (tmp_path / "cut/run/checkpoints").iterdir() if path.is_dir()]
    assert "checkpoint-4" in saved
    assert train(tmp_path, "cut", max_steps=7, save_every=2, resume="auto") == whole


def test_tokens_that_are_seen_are_those_of_texts(tmp_path: Path) -> None:
    dataset = Examples(N)
    trainer = trainer_of(tmp_path, dataset, batch_size=N, gradient_accumulation_steps=1)
    result = trainer.session.train_step(rows_of(dataset))
    assert result.tokens == int(rows_of(dataset).others["lengths"].sum())
    assert trainer.state.tokens_seen == result.tokens


def test_the_plan_has_the_passes_of_a_micro_batch_and_the_vectors_of_an_update(
    tmp_path: Path,
) -> None:
    found = {}
    for size in (2, 12):
        trainer = trainer_of(
            tmp_path, Examples(24), batch_size=size, gradient_accumulation_steps=24 // size
        )
        planner = Planner(
            trainer.model, trainer.config, "adamw", load_registry(), datasets=(trainer.dataset,)
        )
        plan = planner.plan().by_family
        trainer.session.step.gradients(rows_of(Examples(24), 24))
        passes = ("activations", "stream", "logits", "scratch")
        planned, memory = sum(plan[name] for name in passes), trainer.model.body.memory
        assert memory.workspace is not None
        assert memory.workspace.nbytes <= planned
        found[size] = planned, plan["batches"]
    assert found[2][0] < 0.4 * found[12][0]  # of 3 rows, and of some 9
    assert found[2][1] == found[12][1] > 2 * 24 * 2 * 16 * 4


def test_texts_that_fill_their_rows_take_what_is_planned(tmp_path: Path) -> None:
    class Full(Examples):
        def window(self, i: int) -> Rows:
            rng = np.random.default_rng(i)
            y = np.full(40, -100, np.int32)
            y[[19, 39]] = 0
            lengths = np.full(2, 20, np.int32)
            x = rng.integers(0, self.vocab_size, 40).astype(np.int32)
            return Rows(x, y, None, {"lengths": lengths})

    dataset = Full(N)
    dataset.seq_len = 40
    trainer = trainer_of(tmp_path, dataset)
    planner = Planner(trainer.model, trainer.config, "adamw", load_registry(), datasets=(dataset,))
    trainer.session.step.gradients(rows_of(dataset, 6))
    plan = planner.plan().by_family
    passes = ("activations", "stream", "logits", "scratch")
    assert sum(plan[n] for n in passes) == trainer.model.body.memory.workspace.nbytes


# ------------------------------------------------------------------ what is not finite


def test_what_is_not_finite_is_found_by_running_again(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, Examples(N), on_nonfinite="stop")
    trainer.model.parameters["blocks.1.mlp.up.weight"].data[3, 2] = np.nan
    with pytest.raises(NonFiniteError, match=r"blocks\.1\.mlp\.up\.weight"):
        trainer.session.train_step(rows_of(Examples(N), 6))


def test_a_loss_that_makes_nan_is_named(tmp_path: Path) -> None:
    class Wrong(InBatch):
        def value(self, pooled: PooledBatch, *, gradient: bool = True) -> Any:
            found = super().value(pooled, gradient=gradient)
            found.d_embeddings_KNE[0, 1, 2] = np.nan
            return found

    trainer = trainer_of(tmp_path, Examples(N), Wrong(), on_nonfinite="stop")
    with pytest.raises(NonFiniteError, match=r"Wrong\.value"):
        trainer.session.train_step(rows_of(Examples(N), 6))


def test_monitors_see_each_micro_batch_once(tmp_path: Path) -> None:
    trainer = trainer_of(
        tmp_path, Examples(N), monitors=["attention_entropy"], monitor_steps=1, sinks=["jsonl"]
    )
    trainer.train()
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert any("entropy" in name for line in lines for name in line)


# ------------------------------------------------------------------ refusals


class Scored(InBatch):
    needs_score = True


class Three(InBatch):
    n_texts = range(3, 4)


def token_windows() -> Any:
    from tisslm import TokenDataset

    return TokenDataset(np.arange(100, dtype=np.uint16) % 23, 20, vocab_size=23)


@pytest.mark.parametrize(
    ("dataset", "loss", "changes", "message"),
    [
        (Examples, CrossEntropy, {}, "loss CrossEntropy: expected a loss of vectors, such as"),
        (token_windows, InBatch, {}, "dataset: expected examples of several texts, since the"),
        (Examples, Scored, {}, "dataset: expected examples with a score, which the loss Scored"),
        (Examples, Three, {}, "dataset: expected examples of 3 texts, which the loss Three takes, "
                              "got 2; choose"),
        (Examples, lambda: InBatch(learned=True), {}, "loss InBatch: it takes the temperature "
         "that the model learns, but the model learns none"),
        (Examples, lambda: Contrastive(dimensions=[4, 99]), {}, "loss Contrastive: expected a "
         "model whose vectors have at least 99 numbers, which the loss is to see (dimensi"),
        (Examples, InBatch, {"batch_size": 1, "gradient_accumulation_steps": 1},
         "training.batch_size: expected at least two examples in an update, which the loss"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(
    tmp_path: Path, dataset: Any, loss: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        trainer_of(tmp_path, dataset(), loss(), **changes)
    assert str(caught.value).startswith(message)


def test_an_example_that_is_left_alone_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dataset: its 13 examples leave one alone at the end of"):
        trainer_of(tmp_path, Examples(13))


def test_a_language_model_refuses_a_loss_of_vectors(tmp_path: Path) -> None:
    from tisslm import Transformer, TransformerConfig
    from tisslm.config import TrainingConfig

    values = shape_of().values()
    model = Transformer(TransformerConfig(**{**values, "pooling": "none"}))
    config = TrainingConfig(max_steps=2, output_dir=str(tmp_path))
    with pytest.raises(ConfigError, match="loss InBatch: expected a loss of logits, such as cross"):
        Trainer(model, "adamw", InBatch(), "constant", token_windows(), config)


def test_a_language_model_refuses_examples_of_texts(tmp_path: Path) -> None:
    from tisslm import Transformer, TransformerConfig
    from tisslm.config import TrainingConfig

    model = Transformer(TransformerConfig(**{**shape_of().values(), "pooling": "none"}))
    config = TrainingConfig(max_steps=2, output_dir=str(tmp_path))
    for data in ({"dataset": Examples(4)}, {"dataset": None, "val_dataset": Examples(4)}):
        with pytest.raises(ConfigError, match=r"dataset: expected windows of tokens, since .*set"):
            Trainer(model, scheduler="constant", config=config, **data)


def test_a_model_that_sees_what_it_is_to_predict_is_refused(tmp_path: Path) -> None:
    from tisslm import Transformer, TransformerConfig
    from tisslm.config import TrainingConfig

    values = {**shape_of().values(), "pooling": "none", "causal": False}
    model = Transformer(TransformerConfig(**values))
    assert (model.writes_text, model.sees_ahead) == (False, True)
    config = TrainingConfig(max_steps=2, output_dir=str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        Trainer(model, "adamw", "cross_entropy", "constant", token_windows(), config)
    assert str(caught.value) == (
        "loss cross_entropy: expected a model whose tokens see only what stands before them, got "
        "one that is not causal, whose tokens see those that they are to predict; leave "
        "model.causal out, or set model.pooling, which makes vectors of texts"
    )


def test_rows_that_are_no_examples_are_refused(tmp_path: Path) -> None:
    step = trainer_of(tmp_path).session.step
    x = np.zeros((2, 5), np.int32)
    with pytest.raises(ShapeError, match=r"expected x of shape \(B, W\) and the lengths"):
        step.gradients(Rows(x, x))
    with pytest.raises(DataError, match="train_step: expected at least two examples"):
        step.gradients(rows_of(Examples(N), 1))

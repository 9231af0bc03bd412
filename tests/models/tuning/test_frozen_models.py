"""Models of which a part is frozen: the same numbers, fewer products, untouched bytes."""

from __future__ import annotations

from fnmatch import fnmatchcase

import numpy as np
import pytest

from tisslm import Trainer, TrainingConfig, Transformer, TransformerConfig, ops
from tisslm.contracts import Batch, target_weights
from tisslm.errors import ConfigError
from tisslm.models.tuning.tuning import Tuning
from tisslm.optim.losses.cross_entropy import CrossEntropy

SHAPE = {"n_layer": 3, "n_head": 2, "n_embd": 16, "seq_len": 12, "vocab_size": 17}
LLAMA = {"family": "llama", "activation": "swiglu", "norm": "rms", "positions": "rotary"}
LLAMA |= {"bias": False, "n_kv_head": 1}
QWEN = {**LLAMA, "family": "qwen3", "qk_norm": "head"}


def make(tuning, seed=3, dtype="float32", **shape):
    return Transformer(
        TransformerConfig(**{**SHAPE, **shape}), seed=seed, dtype=dtype, tuning=tuning
    )


def batch(rows=5):
    x, y = np.random.default_rng(1).integers(0, 17, (2, rows, 12)).astype(np.int32)
    return x, y


class Ops(ops.Watcher):
    """Notes which operations are called."""

    def __init__(self):
        self.names = []

    def before(self, op, args):
        self.names.append(op)

    def after(self, op, args):
        pass


def run(model):
    """Return loss, gradients and the operations of a pass."""
    x, y = batch()
    seen = Ops()
    model.parameters.zero_grad()
    with ops.watching(seen):
        loss = model.step_loss(Batch(x, y, target_weights(y, model.dtype)), CrossEntropy())
    return loss, {p.name: p.grad.copy() for p in model.parameters if p.trainable}, seen.names


def count(names):
    """Return how many operations there were: two products in one call are two."""
    return len(names) + names.count("linear_backward")


@pytest.mark.parametrize("shape", [{}, {"parallel_residual": True}, LLAMA, QWEN])
@pytest.mark.parametrize(
    "patterns",
    [
        ["*.bias"],
        ["*.weight"],
        ["*norm*"],
        ["embedding.*"],
        ["blocks.0.*", "embedding.*", "blocks.2.mlp.down.*"],
        ["blocks.*.attention.*"],
        ["embedding.*", "blocks.*"],
    ],
)
@pytest.mark.parametrize("checkpointing", ["none", "full"])
def test_gradients_of_the_rest_have_the_same_bits(shape, patterns, checkpointing):
    everything = make(None, dropout=0.1, **shape)
    names = [p.name for p in everything.parameters]
    matched = [{name for name in names if fnmatchcase(name, pattern)} for pattern in patterns]
    if not all(matched) or set().union(*matched) == set(names):  # no biases there, or no others
        with pytest.raises(ConfigError, match=r"^training\.freeze: "):
            make(Tuning(patterns), dropout=0.1, **shape)
        return
    part = make(Tuning(patterns), dropout=0.1, **shape)
    part.prepare(activation_checkpointing=checkpointing)
    loss, expected, all_ops = run(everything)
    found_loss, found, some_ops = run(part)
    assert found_loss == loss
    assert 0 < len(found) < len(expected)
    assert all(found[name].tobytes() == expected[name].tobytes() for name in found)
    assert count(some_ops) <= count(all_ops) or checkpointing == "full"


def test_frozen_weights_have_no_product_and_layers_below_no_backward():
    _, _, names = run(make(Tuning(["*.weight"], adapter=None)))
    plain = run(make(None))[2]
    inputs = ("linear_backward", "linear_backward_input")
    assert names.count("linear_backward_input") == sum(plain.count(name) for name in inputs)
    assert "linear_backward" not in names
    assert names.count("linear_backward_weight") == 3 * 4  # biases alone, and none of the head
    frozen = ["embedding.*", "blocks.0.*", "blocks.1.*"]
    _, found, names = run(make(Tuning(frozen)))
    assert all(name.startswith(("blocks.2.", "final_norm")) for name in found)
    assert names.count("attention_backward") == 1
    assert "embedding_backward" not in names


def test_a_head_alone_has_no_backward_below():
    freeze, loose = ["embedding.*", "blocks.*", "final_norm.*"], {"tie_embeddings": False}
    expected = run(make(None, **loose))[1]["head.weight"]
    model = make(Tuning(freeze), **loose)
    _, found, names = run(model)
    assert set(found) == {"head.weight"}
    assert found["head.weight"].tobytes() == expected.tobytes()
    assert [name for name in names if "backward" in name] == ["linear_backward_weight"]
    sizes = {p.name: p.size for p in model.parameters}
    forward = sum(n for name, n in sizes.items() if not name.startswith("embedding"))
    assert model.flops_per_token(12) == 2 * (forward + sizes["head.weight"]) + 3 * 12 * 16 * 2
    norm = make(Tuning(freeze[:2]), **loose)
    assert norm.flops_per_token(12) == model.flops_per_token(12) + 2 * (
        sizes["head.weight"] + 2 * (sizes["final_norm.weight"] + sizes["final_norm.bias"])
    )


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("checkpointing", ["none", "full"])
def test_blocks_without_a_backward_keep_nothing(parallel, checkpointing):
    def kept(*patterns):
        model = make(Tuning(patterns), parallel_residual=parallel)
        plan = model.plan(2, 12, activation_checkpointing=checkpointing)
        names = [name for name in plan if name.startswith("layers.")]
        return {name.split(".")[1] for name in names}, sum(plan.values())

    every, whole = kept()
    left, half = kept("embedding.*", "blocks.0.*", "blocks.1.*")
    last = {"2"} if parallel else {"4", "5"} if checkpointing == "none" else {"4"}
    assert left == last < every
    assert half < whole
    assert kept("blocks.0.*")[0] == every  # the embedding is trained below it


def test_operations_per_token_follow():
    def flops(*patterns):
        return make(Tuning(patterns)).flops_per_token(12)

    whole, head = flops(), flops("embedding.*", "blocks.*")
    sizes = {p.name: p.size for p in make(None).parameters}
    above = sum(n for name, n in sizes.items() if not name.startswith(("blocks", "embedding.pos")))
    norm = sizes["final_norm.weight"] + sizes["final_norm.bias"]
    blocks = sum(n for name, n in sizes.items() if name.startswith("blocks"))
    keys = 3 * 12 * 16 * 2
    assert whole == 6 * (above + blocks) + keys * 3
    assert head == 4 * above + 2 * norm + 2 * blocks + keys
    assert flops("blocks.0.*") == whole - 2 * blocks // 3


def trainer_of(model, folder, **settings):
    from tisslm import TokenDataset

    tokens = np.random.default_rng(7).integers(0, 17, 700).astype(np.uint16)
    dataset = TokenDataset(tokens, 12, vocab_size=17)
    config = TrainingConfig(
        batch_size=3, max_steps=20, learning_rate=1e-2, save_every=10, output_dir=str(folder),
        validation_frequency=0, monitor_steps=5, log_gradients=True, **settings,
    )  # fmt: skip
    monitors = ["activation_stats", "update_norms", "weight_distribution"]
    return Trainer(model, config=config, dataset=dataset, sinks=(), monitors=monitors)


@pytest.mark.parametrize("frozen_precision", ["fp32", "bf16"])
def test_frozen_bytes_stay_and_a_run_resumes_to_the_bit(tmp_path, frozen_precision):
    tuning = Tuning(("embedding.*", "blocks.0.*", "*.mlp.down.weight"), frozen_precision)
    model = make(tuning)
    before = {p.name: p.data.tobytes() for p in model.parameters}
    trainer = trainer_of(model, tmp_path / "whole", freeze=list(tuning.freeze))
    trainer.train()
    for p in model.parameters:
        assert (p.data.tobytes() == before[p.name]) is not p.trainable
    trained = {p.name for p in model.parameters if p.trainable}
    owners = {name.rpartition("/")[0] for name in trainer.optimizer.state() if "/" in name}
    assert owners == trained

    again = trainer_of(
        make(tuning, seed=3), tmp_path / "again",
        resume=str(tmp_path / "whole" / "checkpoints" / "checkpoint-10"),
    )  # fmt: skip
    again.train()
    for p in model.parameters:
        assert again.model.parameters[p.name].data.tobytes() == p.data.tobytes()


def test_a_plan_has_no_gradients_and_no_state_of_what_is_frozen():
    from tisslm.registry import load_registry
    from tisslm.training.memory_plan.planner import Planner

    def plan(tuning):
        model = Transformer.of_shapes(TransformerConfig(**SHAPE), tuning=tuning)
        return Planner(model, TrainingConfig(), "adamw", load_registry()).plan()

    tuning = Tuning(("embedding.*", "blocks.*.weight"), "bf16")
    whole, part = plan(None), plan(tuning)
    specs = tuning.specs(TransformerConfig(**SHAPE))
    trained = [s for s in specs if s.trainable]
    assert part.by_family["gradients"] < whole.by_family["gradients"]
    assert (
        part.by_family["gradients"]
        == Transformer.of_shapes(
            TransformerConfig(**SHAPE), tuning=tuning
        ).parameters.grad_arena.nbytes
    )
    state = sum(8 * int(np.prod(s.shape)) for s in trained)
    assert part.by_family["optimizer state"] == pytest.approx(state, abs=64)
    assert part.by_family["parameters"] < 0.6 * whole.by_family["parameters"]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_weights_in_two_bytes_are_what_they_were_rounded_to(precision):
    """A float32 base of values that bfloat16 has is the same model."""
    stored = make(Tuning(("embedding.*", "blocks.*.weight"), "bf16"), **LLAMA)
    plain = make(Tuning(("embedding.*", "blocks.*.weight")), **LLAMA)
    for p in plain.parameters:
        p.fill(..., stored.parameters[p.name].data)
    for model in (stored, plain):
        model.prepare(precision=precision)
    (loss, found, _), (expected_loss, expected, _) = run(stored), run(plain)
    assert loss == pytest.approx(expected_loss, rel=1e-6)  # packed or read where it lies
    for name in found:
        largest = abs(expected[name]).max()
        assert abs(found[name] - expected[name]).max() < 1e-5 * largest
    x = batch()[0]
    decoders = [model.decoder() for model in (stored, plain)]
    first, second = (d.prefill(x[:, :4]) for d in decoders)
    assert np.allclose(first, second, atol=1e-5)
    first, second = (d.step(x[:, 4]) for d in decoders)
    assert np.allclose(first, second, atol=1e-5)
    assert np.allclose(stored.decoder("bf16").prefill(x), plain.decoder("bf16").prefill(x))

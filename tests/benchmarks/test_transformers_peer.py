"""The peer of transformers: the same loss of the same weights, and one sentence without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tisslm import Transformer, TransformerConfig

SIDES = Path(__file__).parents[2] / "benchmarks" / "sides"

#: Both compute in float32; a mean over a few tokens of sums of a few dozen terms.
CLOSE = 1e-5


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_it_has_our_loss(script, monkeypatch, family):
    torch = pytest.importorskip("torch", reason="needs pip install tisslm[test-transformers]")
    pytest.importorskip("transformers", reason="needs pip install tisslm[test-transformers]")
    monkeypatch.syspath_prepend(str(SIDES))
    kind = script("families").Llama(2, 24, 1e4, 1e-5, family)
    keys = script("sizes").Size(2, 4, 32, 11, 2, 8, kind).model(bias=True)
    ours, rng = Transformer(TransformerConfig(**keys), seed=1), np.random.default_rng(1)
    for parameter in ours.parameters:  # so that no norm is 1, and no bias 0
        parameter.data[...] += rng.normal(0, 0.3, parameter.shape)
    x, y = rng.integers(0, 11, (2, 2, 8), dtype=np.int32)
    peer = script("transformers_llama").load_llama(
        keys, {parameter.name: parameter.data for parameter in ours.parameters}
    )
    assert sum(p.numel() for p in peer.parameters()) == ours.parameters.count
    with torch.no_grad():
        loss = float(peer(torch.from_numpy(x).long(), torch.from_numpy(y).long()))
    logits, _ = ours.forward(x)
    rows = logits.reshape(-1, 11).astype(np.float64)
    expected = np.log(np.exp(rows).sum(1)) - rows[np.arange(16), y.reshape(-1)]
    assert loss == pytest.approx(expected.mean(), rel=CLOSE)


@pytest.mark.parametrize("name", ["torch_side", "transformers_side"])
def test_what_is_missing_is_named(script, monkeypatch, name):
    monkeypatch.syspath_prepend(str(SIDES))
    script(name)
    side = script("torch_side").TorchSide(None, "No module named 'transformers'", 0)
    with pytest.raises(
        script("protocol").UnavailableError, match=r"import .* named 'transformers'"
    ):
        side.prepare({}, "")

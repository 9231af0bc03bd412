"""Folders that are exported, as Hugging Face transformers loads them.

Needs transformers and PyTorch: ``pip install tisslm[test-transformers]``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf_models import CASES, model_of

from tisslm.tokenizers import BpeTokenizer, ByteTokenizer, CharTokenizer
from tisslm.workflows.export import write_folder

torch = pytest.importorskip("torch", reason="needs pip install tisslm[test-transformers]")
transformers = pytest.importorskip(
    "transformers", reason="needs pip install tisslm[test-transformers]"
)

TEXT = "It's the 42nd naïve fox.\n\n  The end."


@pytest.mark.parametrize(("dtype", "bound"), [("fp32", 1e-5), ("bf16", 5e-2), ("fp16", 1e-2)])
@pytest.mark.parametrize("case", CASES)
def test_logits(tmp_path: Path, case: str, dtype: str, bound: float) -> None:
    model = model_of(case)
    if model.exchange() is None:
        pytest.skip("transformers has no class of this shape")
    write_folder(tmp_path / "out", model, None, dtype)
    peer = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert str(peer.dtype).removeprefix("torch.") == {
        "fp32": "float32", "bf16": "bfloat16", "fp16": "float16",
    }[dtype]  # fmt: skip
    x = np.random.default_rng(2).integers(0, 300, (2, 48), dtype=np.int32)
    with torch.no_grad():
        theirs = peer.float()(torch.from_numpy(x.astype(np.int64))).logits.numpy()
    ours, _ = model.forward(x)
    assert np.abs(ours - theirs).max() <= bound * np.abs(ours).max()


@pytest.mark.parametrize("kind", ["bpe", "byte", "char"])
def test_tokenizers(tmp_path: Path, kind: str) -> None:
    tokenizer = {
        "bpe": lambda: BpeTokenizer.from_text(TEXT * 9, vocab_size=280),
        "byte": ByteTokenizer,
        "char": lambda: CharTokenizer.from_text(TEXT),
    }[kind]()
    write_folder(tmp_path / "out", model_of("llama"), tokenizer)
    peer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = peer(TEXT, add_special_tokens=False)["input_ids"]
    assert ids == tokenizer.encode(TEXT)
    assert peer.decode(ids, clean_up_tokenization_spaces=False) == TEXT

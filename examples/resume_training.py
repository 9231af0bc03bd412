"""Resume training: a run that goes on from a checkpoint equals the one that was never stopped.

    python examples/resume_training.py [TEXT] [--steps 60]

TEXT is a UTF-8 file; left out, it is the language reference that every Python carries. One run
trains to the end and keeps a checkpoint of its middle; a second one, with parts made anew, goes
on from there. Both go to ``runs/resume-<time>``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from tisslm import TextDataset, Trainer, TrainingConfig, Transformer, TransformerConfig
from tisslm.datasets import python_docs_text, read_text
from tisslm.tokenizers import CharTokenizer


def build(text: Path, config: TrainingConfig) -> Trainer:
    """Compose a run by name, the same one each time but for its configuration."""
    tokenizer = CharTokenizer.from_text(read_text(text))
    shape = TransformerConfig.preset("char-tiny", vocab_size=tokenizer.vocab_size, dropout=0.1)
    return Trainer(
        Transformer(shape, seed=config.seed),
        optimizer="adamw",
        loss_fn="cross_entropy",
        scheduler=("warmup_cosine", {"warmup_steps": 0.1}),
        dataset=TextDataset(text, tokenizer),
        config=config,
    )


def run(text: Path, steps: int) -> tuple[Trainer, Trainer]:
    """Train to the end, then once more from the checkpoint of the middle."""
    middle = max(1, steps // 2)
    config = TrainingConfig(
        name="resume", max_steps=steps, batch_size=16, learning_rate=1e-3, save_every=middle
    )
    whole = build(text, config)
    whole.train()

    config.resume_from = f"{whole.run.checkpoints}/checkpoint_step_{middle}.bin"
    resumed = build(text, config)
    resumed.train()
    return whole, resumed


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train, then go on from the middle.")
    parser.add_argument("text", nargs="?", type=Path)
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = arguments.text
        if text is None:
            text = Path(folder, "python-docs.txt")
            text.write_text(python_docs_text(), encoding="utf-8")
        whole, resumed = run(text, arguments.steps)
    same = np.array_equal(whole.model.parameters.data, resumed.model.parameters.data)
    print(f"the same parameters, bit for bit: {'yes' if same else 'no'}")


if __name__ == "__main__":
    main()

"""Basic training: every part is made here and handed to a Trainer.

    python examples/basic_training.py [TEXT] [--steps 100]

TEXT is a UTF-8 file; left out, it is the language reference that every Python carries. The run
goes to ``runs/basic-<time>``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tisslm import TextDataset, Trainer, TrainingConfig, Transformer, TransformerConfig
from tisslm.datasets import python_docs_text, read_text
from tisslm.optim import Adam, Cosine, CrossEntropy
from tisslm.tokenizers import CharTokenizer


def run(text: Path, steps: int) -> Trainer:
    """Train a small character model on a text for so many steps."""
    tokenizer = CharTokenizer.from_text(read_text(text))
    model = Transformer(TransformerConfig.preset("char-tiny", vocab_size=tokenizer.vocab_size))
    optimizer = Adam(model.parameters, 1e-3)
    scheduler = Cosine(optimizer, steps, steps // 10)  # of all steps, the first tenth warms up
    loss_fn = CrossEntropy()
    dataset = TextDataset(text, tokenizer)

    config = TrainingConfig(name="basic")
    config.epochs = 10
    config.max_steps = steps  # ends the run before ten epochs are over
    config.batch_size = 32
    config.max_grad_norm = 1.0
    config.save_every = 1000
    config.checkpoint_dir = "checkpoints"

    trainer = Trainer(model, optimizer, loss_fn, scheduler, dataset, config)
    trainer.train()
    return trainer


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train with parts that are made by hand.")
    parser.add_argument("text", nargs="?", type=Path)
    parser.add_argument("--steps", type=int, default=100)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = arguments.text
        if text is None:
            text = Path(folder, "python-docs.txt")
            text.write_text(python_docs_text(), encoding="utf-8")
        trainer = run(text, arguments.steps)
    print(f"loss {trainer.loss_history[0]:.3f} -> {trainer.loss_history[-1]:.3f}")
    print(f"run: {trainer.run.path}")


if __name__ == "__main__":
    main()

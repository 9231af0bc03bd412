"""A custom training loop: forward, loss, backward, clip, update and schedule are called here.

    python examples/custom_loop.py [TEXT] [--steps 100]

TEXT is a UTF-8 file; left out, it is the language reference that every Python carries. For the
same data the loop gives the same bits as ``trainer.train()``.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import count
from pathlib import Path

from tisslm import TextDataset, Trainer, TrainingConfig, Transformer, TransformerConfig
from tisslm.datasets import python_docs_text, read_text
from tisslm.optim import AdamW, CrossEntropy, WarmupCosine
from tisslm.tokenizers import CharTokenizer


def build(text: Path, steps: int, dropout: float = 0.1) -> tuple[Trainer, TextDataset]:
    """Make the parts; the Trainer sets the batch size and the seed of the dataset."""
    tokenizer = CharTokenizer.from_text(read_text(text))
    shape = TransformerConfig.preset("char-tiny", vocab_size=tokenizer.vocab_size, dropout=dropout)
    model = Transformer(shape)
    optimizer = AdamW(model.parameters, 1e-3)
    scheduler = WarmupCosine(optimizer, steps, steps // 10)
    config = TrainingConfig(name="custom", max_steps=steps, batch_size=16)
    dataset = TextDataset(text, tokenizer)
    trainer = Trainer(model, optimizer, CrossEntropy(), scheduler, dataset, config, sinks=())
    return trainer, dataset


def loop(trainer: Trainer, dataset: TextDataset, steps: int) -> None:
    """Make the updates that ``trainer.train()`` would make, and print some of them."""
    model, loss_fn = trainer.model, trainer.loss_fn
    optimizer, scheduler = trainer.optimizer, trainer.scheduler
    step = 1
    for epoch in count():
        for x_batch, y_batch in dataset:
            # Forward pass; train=True switches dropout on
            logits, cache = model.forward(x_batch, train=True)

            # Compute loss
            loss = loss_fn.forward(logits, y_batch)

            # Backward pass
            d_logits = loss_fn.backward()
            trainer.backward(d_logits, cache)

            # Clip gradients
            trainer.clip_gradients(1.0)

            # Update parameters
            optimizer.step()

            # Update learning rate
            lr = scheduler.step(step)

            # Zero gradients
            optimizer.zero_grad()

            # Log
            if step % 10 == 0:
                print(f"Step {step}, Loss: {loss:.4f}, LR: {lr:.2e}")

            # Save checkpoint
            if step % 1000 == 0 or step == steps:
                trainer.save_checkpoint(epoch, step)

            if step == steps:
                return
            step += 1


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train by a loop of your own.")
    parser.add_argument("text", nargs="?", type=Path)
    parser.add_argument("--steps", type=int, default=100)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = arguments.text
        if text is None:
            text = Path(folder, "python-docs.txt")
            text.write_text(python_docs_text(), encoding="utf-8")
        trainer, dataset = build(text, arguments.steps)
        loop(trainer, dataset, arguments.steps)
    print(f"run: {trainer.run.path}")


if __name__ == "__main__":
    main()

"""The teacher of a run that distils: from the path in ``[loss]`` to a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tisslm import checkpoint
from tisslm.config import Part, RunConfig
from tisslm.contracts import Model, ModelConfig, Tokenizer
from tisslm.contracts.model import predicting_model
from tisslm.errors import CheckpointError, ConfigError
from tisslm.optim.losses import Distillation
from tisslm.registry import Registry
from tisslm.training.memory_plan.items import Item
from tisslm.training.memory_plan.passes import resolve_precision
from tisslm.models.tuning.tuning import Tuning
from tisslm.workflows.build.tuned import shapes_of
from tisslm.workflows.open_model import OpenModel, open_model

__all__ = ["Teacher", "find_teacher", "with_teacher"]

#: The loss that has a teacher.
DISTILLATION = "distillation"


@dataclass(frozen=True)
class Teacher:
    """A model that another one learns from, before it has memory.

    Attributes
    ----------
    opened : OpenModel
    shape : ModelConfig
    precision : {"fp32", "bf16", "fp16"}
        How its passes are run.
    """

    opened: OpenModel
    shape: ModelConfig
    precision: str

    def build(self) -> Model:
        """Return the model; the memory of gradients is never taken."""
        model = predicting_model(self.opened.build(self.shape), "loss.teacher")
        model.prepare(precision=self.precision)
        return model

    def items(self, rows: int, time: int) -> Iterator[Item]:
        """Yield what it takes beside the run: weights, a pass without a gradient, tiles of logits.

        Parameters
        ----------
        rows, time : int
            B and T of a pass.
        """
        shapes = shapes_of(self.opened.family, self.shape, Tuning())
        yield Item("parameters", "", shapes.parameters.data.nbytes)
        recomputed = shapes.plan(
            rows, time, precision=self.precision, activation_checkpointing="full"
        )
        yield Item("scratch", "", sum(recomputed.values()))
        vocab = self.shape.vocab_size
        yield Item("logits", "", Distillation.planned(vocab, rows * time))


def find_teacher(
    config: RunConfig,
    shape: ModelConfig,
    tokenizer: Tokenizer | None,
    registry: Registry,
) -> Teacher | None:
    """Return the teacher of a run, None for one that has another loss.

    Parameters
    ----------
    config : RunConfig
    shape : ModelConfig
        Of the model that learns.
    tokenizer : Tokenizer or None
        Its tokenizer.
    registry : Registry

    Raises
    ------
    ConfigError
        If none is named, it is of the run itself, or its vocabulary, tokenizer or context are not
        those of the model.
    CheckpointError
        If it cannot be read.
    """
    if config.loss.name != DISTILLATION:
        return None
    path = config.loss.options.get("teacher")
    if not isinstance(path, str) or not path:
        raise ConfigError(
            "loss.teacher: expected the path of a model (a run, a checkpoint, a folder of Hugging "
            f"Face's, a GGUF file), got {'none' if path is None else repr(path)[:200]}; name one"
        )
    own = config.training.output_dir
    if own and Path(path).resolve().is_relative_to(Path(own).resolve()):
        raise ConfigError(
            f"loss.teacher: expected a model that does not change while the run goes on, got {path}"
            f" of its own training.output_dir, {own}; take another output_dir"
        )
    try:
        opened = open_model(path, registry)
        found = opened.shape({})
    except CheckpointError as error:
        raise CheckpointError(f"loss.teacher: {error}") from error
    if found.vocab_size != shape.vocab_size:
        raise ConfigError(
            f"loss.teacher: expected a model of {shape.vocab_size} token ids, as the one that "
            f"learns, got {opened.where} of {found.vocab_size}; take one of the same tokenizer"
        )
    if found.seq_len < shape.seq_len:
        raise ConfigError(
            f"loss.teacher: expected a context of at least model.seq_len, {shape.seq_len} tokens, "
            f"got {opened.where} of {found.seq_len}; lower model.seq_len, or take another"
        )
    if not _is_same(opened.tokenizer, tokenizer, registry):
        raise ConfigError(
            f"loss.teacher: expected a model of the run's tokenizer, got {opened.where} with "
            "another, whose ids mean other things; train with its tokenizer, or take another"
        )
    return Teacher(opened, found, resolve_precision(config.training.precision))


def _is_same(its: Tokenizer | None, ours: Tokenizer | None, registry: Registry) -> bool:
    """Return whether two tokenizers give each id the same text; one that is missing is not asked.

    The same one has another state where it was read from the files of another program.
    """
    if its is None or ours is None:
        return True
    states = [checkpoint.tokenizer_state(tokenizer, registry) for tokenizer in (its, ours)]
    if None in states or states[0] == states[1]:
        return True
    count = its.vocab_size
    return count == ours.vocab_size and all(its.decode([i]) == ours.decode([i]) for i in range(count))


def with_teacher(loss: Part, teacher: Model) -> Part:
    """Return a loss whose teacher is a model, in place of the path."""
    return Part(loss.name, {**loss.options, "teacher": teacher})

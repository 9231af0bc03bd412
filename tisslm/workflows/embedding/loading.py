"""An encoder and what its run says of texts: prompts, and where they are cut."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from tisslm import checkpoint
from tisslm.contracts import Encoder
from tisslm.contracts.part_names import name_of
from tisslm.errors import CheckpointError
from tisslm.models.huggingface.sentence_transformers import read_text_form
from tisslm.registry import Registry, load_registry
from tisslm.workflows.embedding.embedder import TextEmbedder
from tisslm.workflows.load_model import load_run_config
from tisslm.workflows.open_model import OpenModel, open_model

__all__ = ["load_encoder", "said_of_texts"]


def load_encoder(
    path: checkpoint.Where, *, registry: Registry | None = None, ema: bool = False
) -> TextEmbedder:
    """Load an encoder with its tokenizer; prompts are those that its run was trained with.

    Parameters
    ----------
    path : str, Path or Found
        A checkpoint or a run directory; or what others have published, as for ``load_model``.
    registry : Registry, optional
        Where the names of family and tokenizer are looked up; every installed part if left out.
    ema : bool
        Whether the average of the weights is taken, of a run that has one.

    Raises
    ------
    CheckpointError
        If the model is missing, damaged, no encoder, or without a tokenizer.
    PluginError
        If the family or the tokenizer is not installed.
    """
    opened = open_model(path, load_registry() if registry is None else registry, ema=ema)
    model: Any = opened.build(opened.shape({}))
    if not isinstance(model, Encoder):
        raise CheckpointError(
            f"{opened.where}: expected an encoder, got {name_of(model)}, which predicts tokens and "
            "has no vectors of texts; train one from it with model.from and model.pooling"
        )
    if opened.tokenizer is None:
        raise CheckpointError(
            f"{opened.where}: the model has no tokenizer, so it cannot read text; put its "
            "tokenizer.json into the folder of a published model, or train with a dataset that has "
            "one"
        )
    # what one block leaves for a backward, the next one overwrites: there is none to come
    model.prepare(activation_checkpointing="full")
    return TextEmbedder(
        model,
        opened.tokenizer,
        normalized=model.normalized,
        **said_of_texts(opened),
    )


def said_of_texts(opened: OpenModel) -> dict[str, Any]:
    """Return what the run of a checkpoint, or the files of others, say of texts.

    These are ``prompts``, ``max_tokens`` and ``similarity_name`` of a ``TextEmbedder``.
    """
    if opened.place is None:
        return read_text_form(Path(opened.where))
    with contextlib.suppress(CheckpointError):  # composed in Python, or alone
        config = load_run_config(opened.place)
        options = config.data.options if config.data.name == "examples" else {}
        prompts = {kind: options.get(f"{kind}_prompt", "") for kind in ("query", "document")}
        found = {"prompts": prompts, "max_tokens": options.get("max_text_tokens")}
        similarity = config.loss.options.get("similarity", "cosine")
        return found | {"similarity_name": similarity}
    return {}
